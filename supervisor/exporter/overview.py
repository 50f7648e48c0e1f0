"""What the dashboard shows of this moment, as plain data: workers of this host from the scoreboard, of others from Redis. Pure.

Not the asking (`probe`, `watch`) and not the sending (`live`, the only caller).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.exporter.fleet import Slot, Status
from supervisor.scoreboard import Row

MOST_WORKERS = 2_000
"""Workers sent to a page; beyond that their number alone is."""


def local_workers(status: Status | None, rows: Mapping[int, Row], now_ns: int, hostname: str) -> list[dict[str, Any]]:
    """One entry a slot: who, and what it runs for how long of which limit (seconds)."""
    slots: Iterable[Slot] = status.slots if status else ()
    return [_local(slot, rows.get(slot.slot), now_ns, hostname) for slot in slots]


def _local(slot: Slot, row: Row | None, now_ns: int, hostname: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "host": hostname, "pool": slot.pool, "index": slot.index, "pid": slot.pid, "state": slot.state, "here": True,
        "generation": slot.generation, "age": round(now_ns / 1e9 - slot.since, 1) if slot.since else None,
    }  # fmt: skip
    if row is None or row.birth != slot.birth:
        return found
    found |= {"done": row.done, "held": row.held}
    if row.running:
        found |= {"queue": row.queue, "type": row.type, "job": row.job_id, "seconds": _seconds(now_ns - row.start_ns)}
        if row.soft_ns:
            found["limit"] = _seconds(row.soft_ns - row.start_ns)
    if slot.state == "ready":
        found["state"] = "busy" if row.running else "idle" if row.ready else "waiting for Redis"
    return found


def remote_workers(
    stats: Mapping[str, Any] | None, names: Mapping[str, str], not_of: str, age: float
) -> list[dict[str, Any]]:
    """Workers of all hosts but `not_of` (host.nonce), whose processes only their reports tell of. `names`: host → hostname."""
    found = []
    for worker in (stats or {}).get("workers", ()):
        host = _host(worker)
        if host == not_of:
            continue
        running, ended = worker["running"], worker["lease_seconds"] < age
        one = {
            "host": names.get(host) or worker["host"], "pool": worker["pool"], "index": worker["index"], "pid": worker["pid"],
            "held": worker["held"], "state": "lost" if ended else "busy" if running else "idle",
        }  # fmt: skip
        if running:
            one |= {"type": running["type"], "job": running["job_id"]}
            one["seconds"] = round(running["running_seconds"] + age, 1)
        found.append(one)
    return found


def hosts(stats: Mapping[str, Any] | None, reported: Iterable[Mapping[str, Any]], origin: str) -> list[dict[str, Any]]:
    """Each host with the number of its workers that hold leases, and whether it is ours."""
    working = Counter(_host(worker) for worker in (stats or {}).get("workers", ()))
    return [{**host, "workers": working[host["id"]], "here": host["id"] == origin} for host in reported]


def _host(worker: Mapping[str, Any]) -> str:
    """host.nonce of a worker's id."""
    return ".".join(str(worker["worker"]).split(".")[:2])


def of_status(status: Status | None, now: float) -> dict[str, Any] | None:
    """The master's last word and its age."""
    if status is None:
        return None
    return {
        "age": round(now - status.at, 1), "ready": status.ready, "desired": status.desired, "generation": status.generation,
        "draining": status.draining, "restarts": status.restarts, "reloads": dict(status.reloads), "last_reload": status.last_reload,
        "roles": [{"name": name, "generation": generation, "state": state} for name, generation, state in status.roles],
    }  # fmt: skip


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 1)
