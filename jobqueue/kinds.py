"""What a worker knows of each (queue, type) it meets: the handler, its limits, how its retries go, how long it runs. Looked up once.

Claim-ahead rests on it: how many jobs a trip may claim follows from smoothed run times, and a type that is not known to be short is never
run while other jobs are held behind it. No I/O; called by `jobqueue.worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jobqueue.job import Envelope, Job
from jobqueue.handlers import Handler, Registry
from jobqueue.retry import Policy, policy_for, time_limit_for
from jobqueue.settings import QueueSettings

RUNS_KNOWN: Final = 10  # a type with fewer runs counts as long
SMOOTH_TYPE: Final = 0.2
SMOOTH_ALL: Final = 0.25


class Kind:
    """One (queue, type). `run`: seconds, smoothed. `durations`: of the jobs acked since the last trip, for the metrics."""

    __slots__ = ("call", "durations", "handler", "key", "raw", "run", "runs", "settings", "type", "type_bytes", "wants_job")

    def __init__(self, queue: str, type_: str, handler: Handler | None, settings: QueueSettings) -> None:
        self.key = (queue, type_)
        self.type, self.type_bytes = type_, type_.encode("utf-8", "replace")
        self.handler, self.settings = handler, settings
        self.raw = settings.handler if settings.codec == "raw" else None
        self.call: Callable[[bytes, Job | None], object] | None = None
        self.wants_job = False
        if handler is not None:
            self.call = handler.run_raw if self.raw is not None else handler.run
            self.wants_job = handler.wants_job
        self.run, self.runs = 0.0, 0
        self.durations: list[float] = []

    def ran(self, seconds: float) -> None:
        """One more run."""
        self.runs += 1
        self.run += (seconds - self.run) * (SMOOTH_TYPE if self.runs > 1 else 1.0)

    def short(self, budget: float) -> bool:
        """Known to be short: jobs of it may be claimed ahead."""
        return self.runs >= RUNS_KNOWN and self.run < budget

    def time_limit(self, envelope: Envelope) -> float | None:
        """Soft limit of this job in seconds."""
        return time_limit_for(envelope.time_limit, self.handler, self.settings)

    def policy_for(self, envelope: Envelope) -> Policy:
        """How its retries go."""
        return policy_for(envelope.max_attempts, self.handler, self.settings)


class Kinds:
    """All kinds met so far, and the pace of this worker. Types nobody handles share one entry a queue, so that hostile names do not pile up."""

    def __init__(self, registry: Registry, settings: Callable[[str], QueueSettings], budget: float, most: int) -> None:
        self._registry, self._settings, self.budget, self.most = registry, settings, budget, most
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._raw: dict[str, str | None] = {}
        self._pace = 1.0  # seconds a job, smoothed over all of them; unknown counts as long

    def get(self, queue: str, type_: str) -> Kind:
        """The kind of a job; `handler` is None for an unknown type."""
        kind = self._kinds.get((queue, type_))
        if kind is None:
            handler = self._registry.get(type_)
            kind = Kind(queue, type_, handler, self._settings(queue))
            if handler is not None:
                self._kinds[queue, type_] = kind
        return kind

    def raw_type(self, queue: str) -> str | None:
        """The type that gets every element of a raw queue; None for a queue of envelopes."""
        if queue not in self._raw:
            settings = self._settings(queue)
            self._raw[queue] = settings.handler if settings.codec == "raw" else None
        return self._raw[queue]

    def ran(self, kind: Kind, seconds: float) -> None:
        """A job of that kind took so long."""
        kind.ran(seconds)
        self._pace += (seconds - self._pace) * SMOOTH_ALL

    def want(self) -> int:
        """How many jobs the next trip may claim: as many as are likely to fit the budget."""
        if self.most == 1 or self._pace * 2 > self.budget:
            return 1
        return max(1, min(self.most, int(self.budget / max(self._pace, 1e-9))))
