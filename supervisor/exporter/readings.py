"""Facts as metric families: what is looked up at a scrape, beside what workers counted. Pure.

Not the text (`supervisor.metrics`). Every family is always there, if only as HELP and TYPE; depth and latency have no
samples while Redis is down, since an old number shown as a new one would hide the outage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor import families
from supervisor.exporter.fleet import Status
from supervisor.families import Reading

STATES = ("pending", "scheduled", "processing", "dead")


def of_redis(stats: Mapping[str, Any] | None, health: Mapping[str, Any] | None = None) -> list[Reading]:
    """Depth, latency, leases and whether Redis is up, from `Inspector.stats()`; None: it is down. Its memory, from `health`."""
    depths, latencies, paused = [], [], []
    leases = [float(worker["lease_seconds"]) for worker in (stats or {}).get("workers", ())]
    sizes = {"used": "used_memory", "max": "maxmemory"} if stats is not None and health else {}
    for queue, counts in sorted((stats or {}).get("queues", {}).items()):
        depths += [((queue, state), float(counts[state])) for state in STATES if counts.get(state) is not None]
        paused.append(((queue,), 0.0 if counts.get("paused") is None else 1.0))
        if counts.get("latency_seconds") is not None:
            latencies.append(((queue,), float(counts["latency_seconds"])))
    return [
        Reading(families.REDIS_UP, (((), 0.0 if stats is None else 1.0),)),
        Reading(families.DEPTH, tuple(depths)),
        Reading(families.LATENCY, tuple(latencies)),
        Reading(families.PAUSED, tuple(paused)),
        Reading(families.LEASE, (((), min(leases)),) if leases else ()),
        Reading(families.MEMORY, tuple(((kind,), float((health or {}).get(name, 0))) for kind, name in sizes.items())),
    ]


def of_fleet(status: Status | None, workers: Mapping[tuple[str, str], int], busy: Mapping[str, float]) -> list[Reading]:
    """Workers, restarts, busy and reloads."""
    restarts = {(pool, cause): float(n) for pool, cause, n in (status.restarts if status else ())}
    reloads = {"ok": 0.0, "failed": 0.0} | {result: float(n) for result, n in (status.reloads if status else ())}
    return [
        Reading(families.WORKERS, tuple((key, float(n)) for key, n in sorted(workers.items()))),
        Reading(families.RESTARTS, tuple(sorted(restarts.items()))),
        Reading(families.BUSY, tuple(((pool,), ratio) for pool, ratio in sorted(busy.items()))),
        Reading(families.RELOADS, tuple(((result,), n) for result, n in sorted(reloads.items()))),
    ]


def of_build(version: str, python: str) -> Reading:
    return Reading(families.BUILD, (((version, python), 1.0),))
