"""How a server is: version, memory, persistence, load and round trip, as plain data. Read-only, two trips.

Not a verdict on it (`jobqueue.redis.connect.check_server`, `jqctl doctor`). Used by the exporter's dashboard.
"""

from __future__ import annotations

import time
from typing import Any

from jobqueue.errors import ServerRefused
from jobqueue.redis.connect import parse_info
from jobqueue.redis.server import Server

_NUMBERS = (
    "used_memory", "maxmemory", "connected_clients", "instantaneous_ops_per_sec", "uptime_in_seconds", "connected_slaves", "evicted_keys",
)  # fmt: skip


def health(server: Server) -> dict[str, Any]:
    """Raises Unavailable, ServerRefused. What INFO may not tell (NOPERM) is left out."""
    began = time.perf_counter()
    server.call("TIME")
    found: dict[str, Any] = {"where": server.where, "round_trip_ms": round((time.perf_counter() - began) * 1000, 3)}
    try:
        info = parse_info(server.call("INFO"))
    except ServerRefused as refused:
        if refused.code != "NOPERM":
            raise
        return found
    found["name"] = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version', '?')}"
    )
    found |= {name: int(info[name]) for name in _NUMBERS if info.get(name, "").isdigit()}
    found["role"] = info.get("role", "?")
    found["policy"] = info.get("maxmemory_policy", "?")
    found["appendonly"] = info.get("aof_enabled") == "1"
    found["write_error"] = info.get("aof_last_write_status", "ok") != "ok"
    return found
