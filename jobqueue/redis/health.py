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
    told = [said for _, said in server.each("INFO")]
    if isinstance(told[0], ServerRefused):
        if told[0].code != "NOPERM":
            raise told[0]
        return found
    infos = [parse_info(said) for said in told if not isinstance(said, Exception)]
    if not infos:
        raise told[0]
    info = infos[0]
    found["name"] = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version', '?')}"
    )
    for name in _NUMBERS:  # of the masters of a Cluster together; the youngest tells for how long all have been up
        numbers = [int(one[name]) for one in infos if one.get(name, "").isdigit()]
        if numbers:
            found[name] = min(numbers) if name == "uptime_in_seconds" else sum(numbers)
    if len(told) > 1:
        found["name"] += f", {len(infos)} of {len(told)} masters"
    found["role"] = info.get("role", "?")
    found["policy"] = info.get("maxmemory_policy", "?")
    found["appendonly"] = all(one.get("aof_enabled") == "1" for one in infos)
    found["write_error"] = any(one.get("aof_last_write_status", "ok") != "ok" for one in infos)
    return found
