"""What a worker knows of each (queue, type) it meets: the handler, its limits, how its retries go, how long it runs. Looked up once.

Claim-ahead rests on it: how many jobs a trip may claim follows from smoothed run times, and a type that is not known to be short is never
run while other jobs are held behind it. No I/O; called by `jobqueue.worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jobqueue.handlers import Handler, Registry
from jobqueue.job import Envelope, Job
from jobqueue.retry import Policy, policy_for, time_limit_for
from jobqueue.settings import QueueSettings

RUNS_KNOWN: Final = 10  # a type with fewer runs counts as long
BRIEF: Final = 0.05  # seconds; a title costs more than what a job of 10 ms may
SMOOTH_TYPE: Final = 0.2
SMOOTH_ALL: Final = 0.25


class Kind:
    """One (queue, type). `run`: seconds, smoothed. `short`: known to be so, jobs of it may be claimed ahead. `soft_ns`: the limit of a job
    that says nothing of it, 0 for none. Since the last report to the metrics: `touched`: any ran; `durations`: of those that succeeded;
    `waits`: how long jobs waited before they started."""

    __slots__ = (
        "call", "durations", "grace_ns", "handler", "queue", "raw", "run", "runs", "settings", "short", "soft_ns", "touched",
        "type", "type_bytes", "waits", "wants_job",
    )  # fmt: skip

    def __init__(self, queue: str, type_: str, handler: Handler | None, settings: QueueSettings) -> None:
        self.queue, self.type, self.type_bytes = queue, type_, type_.encode("utf-8", "replace")
        self.handler, self.settings = handler, settings
        self.raw = settings.handler if settings.codec == "raw" else None
        self.call: Callable[[bytes, Job | None], object] | None = None
        self.wants_job = False
        if handler is not None:
            self.call = handler.run_raw if self.raw is not None else handler.run
            self.wants_job = handler.wants_job
        self.soft_ns = int((time_limit_for(None, handler, settings) or 0) * 1e9)
        self.grace_ns = int(settings.kill_after * 1e9)
        self.run, self.runs, self.short = 0.0, 0, False
        self.touched = False
        self.durations: list[float] = []
        self.waits: list[float] = []

    def limits(self, envelope: Envelope, start_ns: int) -> tuple[int, int]:
        """When this job's soft and hard limits pass (monotonic ns), 0 for none."""
        soft_ns = self.soft_ns
        if envelope.time_limit is not None:
            soft_ns = int((time_limit_for(envelope.time_limit, self.handler, self.settings) or 0) * 1e9)
        return (start_ns + soft_ns, start_ns + soft_ns + self.grace_ns) if soft_ns else (0, 0)

    @property
    def brief(self) -> bool:
        """Known to be over before anybody could read a process title."""
        return self.run < BRIEF and self.runs >= RUNS_KNOWN

    def policy_for(self, envelope: Envelope) -> Policy:
        """How its retries go."""
        return policy_for(envelope.max_attempts, self.handler, self.settings)


class Kinds:
    """All kinds met so far, and the pace of this worker. `budget`: seconds of work a claim may hold; `most`: jobs."""

    def __init__(self, registry: Registry, settings: Callable[[str], QueueSettings], budget: float, most: int) -> None:
        self._registry, self._settings, self.budget, self.most = registry, settings, budget, most
        self._kinds: dict[str, dict[str, Kind]] = {}
        self._raw: dict[str, str | None] = {}
        self._pace = 1.0  # seconds a job, smoothed over all of them; unknown counts as long

    def known(self, queue: str) -> dict[str, Kind]:
        """Kinds of one queue by type, for quick looks; `get` makes the missing ones."""
        return self._kinds.setdefault(queue, {})

    def get(self, queue: str, type_: str) -> Kind:
        """The kind of a job; `handler` is None for an unknown type, which is not kept: hostile names must not pile up."""
        kind = self.known(queue).get(type_)
        if kind is None:
            handler = self._registry.get(type_)
            kind = Kind(queue, type_, handler, self._settings(queue))
            if handler is not None:
                self._kinds[queue][type_] = kind
        return kind

    def raw_type(self, queue: str) -> str | None:
        """The type that gets every element of a raw queue; None for a queue of envelopes."""
        if queue not in self._raw:
            settings = self._settings(queue)
            self._raw[queue] = settings.handler if settings.codec == "raw" else None
        return self._raw[queue]

    def ran(self, kind: Kind, seconds: float) -> None:
        """A job of that kind took so long."""
        kind.runs = runs = kind.runs + 1
        run = kind.run = kind.run + (seconds - kind.run) * SMOOTH_TYPE if runs > 1 else seconds
        kind.short = run < self.budget and runs >= RUNS_KNOWN
        self._pace += (seconds - self._pace) * SMOOTH_ALL

    def want(self) -> int:
        """How many jobs the next trip may claim: as many as are likely to fit the budget."""
        if self.most == 1 or self._pace * 2 > self.budget:
            return 1
        return max(1, min(self.most, int(self.budget / max(self._pace, 1e-9))))
