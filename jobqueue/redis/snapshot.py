"""What an Inspector saw, as data, and the same as plain data for JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobqueue.workername import WorkerName


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue at one moment. `pending` includes `next`. `latency`: seconds for which the next job has waited; None if there is none,
    or if it does not say and was not seen before. `held`: worker → entries of its processing list. `leases`: worker → end, ms.
    `broken`: why some of it could not be read (a key of a wrong type)."""

    name: str
    pending: int = 0
    scheduled: int = 0
    dead: int = 0
    latency: float | None = None
    paused: str | None = None
    totals: Mapping[str, int] = field(default_factory=dict)
    leases: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    broken: str | None = None

    @property
    def processing(self) -> int:
        return sum(self.held.values())


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker that holds a lease in some queue. `report`: what its host last said of it (`running_seconds` None: idle), if it did."""

    name: WorkerName
    queues: tuple[str, ...]
    held: int
    lease_seconds: float
    report: Mapping[str, Any] | None = None

    @property
    def running(self) -> Mapping[str, Any] | None:
        """The job it ran when its host last reported: `type`, `job_id`, `running_seconds` until now; None: idle, or nobody knows."""
        if self.report is None or not isinstance(self.report.get("running_seconds"), int | float):
            return None
        return {name: self.report.get(name) for name in ("type", "job_id", "running_seconds")}


@dataclass(frozen=True, slots=True)
class HostState:
    """One jqd as its steward last said, `at_ms` by the server's clock. `id`: host and nonce."""

    id: str
    hostname: str
    master_pid: int
    at_ms: int
    workers: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All queues, workers, and hosts with workers. `now_ms`: the server's clock."""

    now_ms: int
    queues: Mapping[str, QueueState]
    workers: Sequence[WorkerState]
    hosts: Sequence[HostState] = ()

    def plain(self) -> dict[str, Any]:
        """What `/stats` and `jqctl stats --json` answer: plain data, ready for JSON."""
        queues = {name: _queue(self.queues[name]) for name in sorted(self.queues)}
        totals = {
            state: sum(q[state] for q in queues.values()) for state in ("pending", "scheduled", "dead", "processing")
        }
        return {**totals, "queues": queues, "workers": [plain_worker(worker) for worker in self.workers]}


def _queue(state: QueueState) -> dict[str, Any]:
    found: dict[str, Any] = {
        "pending": state.pending,
        "scheduled": state.scheduled,
        "dead": state.dead,
        "processing": state.processing,
        "latency_seconds": None if state.latency is None else round(state.latency, 3),
        "paused": state.paused,
        "totals": dict(state.totals),
    }
    return found if state.broken is None else found | {"broken": state.broken}


def plain_worker(worker: WorkerState) -> dict[str, Any]:
    """One entry of `workers`."""
    name = worker.name
    return {
        "worker": name.id, "host": name.host, "pool": name.pool, "index": name.index, "birth": name.birth, "pid": name.pid,
        "queues": list(worker.queues), "held": worker.held, "lease_seconds": round(worker.lease_seconds, 3),
        "running": worker.running,
    }  # fmt: skip
