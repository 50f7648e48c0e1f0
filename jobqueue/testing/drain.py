"""`drain`: run all that is in an InMemoryQueue, inline, by the rules workers follow.

Retries, burials and unique keys behave as in production; what needs another process does not happen: time limits are
not enforced, and a handler that kills its process kills the test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from jobqueue import codec, retry
from jobqueue.execute import Armed, execute
from jobqueue.handlers import Handler, Registry, current
from jobqueue.job import Envelope, Job
from jobqueue.outcome import Dropped, Failed, Fault, Outcome, Rejected, TimedOut, TooNew, UnknownType
from jobqueue.port import Settlement
from jobqueue.settings import QueueSettings, settings_of
from jobqueue.settlement import dispose
from jobqueue.testing.inmemory import InMemoryQueue

WORKER = "inline"
_FOREVER_MS = 10**15


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of one job, and how it ended. `attempt` counts from 1."""

    queue: str
    id: str
    type: str
    attempt: int
    outcome: Outcome

    @property
    def fault(self) -> Fault | None:
        """What went wrong, if anything did."""
        return getattr(self.outcome, "fault", None)


@dataclass(slots=True)
class Drained:
    """All runs of one `drain`, in order."""

    ran: list[Ran] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ran)

    @property
    def failed(self) -> list[Ran]:
        """The runs that ended in a fault."""
        return [run for run in self.ran if isinstance(run.outcome, Failed | Rejected | TimedOut | UnknownType)]

    def types(self) -> list[str]:
        """The types that ran, in order."""
        return [run.type for run in self.ran]


def drain(
    queue: InMemoryQueue,
    *,
    scheduled: bool = False,
    registry: Registry | None = None,
    limit: int = 10_000,
    rnd: Callable[[], float] = random.random,
) -> Drained:
    """Run what is in all queues, and what that enqueues, until nothing is left that is due.

    `scheduled`: let time pass (as `queue.travel` does) until delayed jobs and retries have run too. `registry`: where
    the handlers are; else all those imported. Raises RuntimeError after `limit` runs: some job enqueues itself for
    ever.
    """
    inline = _Inline(queue, registry if registry is not None else current(), rnd)
    while True:
        while inline.run_one():
            if len(inline.drained) >= limit:
                raise RuntimeError(f"{limit} jobs ran and there are more: does a job enqueue itself? (see `limit`)")
        if not scheduled or not inline.let_time_pass():
            return inline.drained


class _Inline:
    """One worker with a place in every queue, each with trips of its own: queues may appear while it works."""

    def __init__(self, queue: InMemoryQueue, registry: Registry, rnd: Callable[[], float]) -> None:
        self.queue, self.port, self.registry, self.rnd = queue, queue.port, registry, rnd
        self.drained = Drained()

    def run_one(self) -> bool:
        """The next job of the first queue that has one that is due."""
        for name in list(self.port.queues):
            self.port.promote(name)
            self.port.join(WORKER, [name], _FOREVER_MS)
            claim = self._trip(name, [])
            if claim:
                self._trip(name, [self._run(name, claim[0])], claiming=False)
                return True
        return False

    def let_time_pass(self) -> bool:
        """Travel to the next due time; False if nothing is scheduled."""
        due = min((t for q in self.port.queues.values() for t in q.scheduled.values()), default=0)
        self.queue.travel(max(0, due - self.port.now_ms()) / 1000)
        return due > 0

    def _trip(self, name: str, done: list[Settlement], *, claiming: bool = True) -> list[bytes]:
        applied = self.port.state(name).workers[WORKER]
        claim = self.port.settle(WORKER, applied + 1, applied, name, done, 0, [name], int(claiming), claiming)
        return list(claim.jobs)

    def _run(self, name: str, element: bytes) -> Settlement:
        settings, raw_type = settings_of(self.queue.queues, name), self.queue.raw_type(name)
        entry: Handler | None = None
        try:
            envelope = codec.decode(element, raw_type=raw_type)
        except codec.Malformed as malformed:
            envelope, outcome = malformed.envelope, _rejected(malformed)
        else:
            entry = self.registry.get(envelope.type)
            raw = codec.body(element) if raw_type is not None else None
            outcome = self._outcome(name, raw, envelope, entry, settings)
        self.drained.ran.append(Ran(name, envelope.id, envelope.type, envelope.attempt + 1, outcome))
        decision = retry.decide(
            outcome,
            attempt=envelope.attempt,
            crashes=envelope.crashes,
            policy=retry.policy_for(envelope.max_attempts, entry, settings),
            rnd=self.rnd(),
        )
        now = self.port.now_ms()
        return dispose(decision, element, envelope, raw_type=raw_type, now_ms=now, new_id=codec.new_id())

    def _outcome(
        self, name: str, raw: bytes | None, envelope: Envelope, entry: Handler | None, settings: QueueSettings
    ) -> Outcome:
        if self.port.cancelled(name, [envelope.id]):
            return Dropped("cancelled")
        if 0 < envelope.expires_at <= self.port.now_ms():
            return Dropped("expired")
        if codec.newer(envelope):
            return TooNew(envelope.v)
        if entry is None:
            return UnknownType(envelope.type)
        payload = bytes(envelope.payload) if raw is None else raw
        job = Job(
            id=envelope.id,
            type=envelope.type,
            queue=name,
            attempt=envelope.attempt + 1,
            max_attempts=retry.policy_for(envelope.max_attempts, entry, settings).max_attempts,
            crashes=envelope.crashes,
            enqueued_at=envelope.enqueued_at,
            deadline=None,
            payload=payload,
            headers=envelope.headers,
        )
        return execute(entry.run if raw is None else entry.run_raw, payload, job, Armed(), 1)


def _rejected(error: Exception) -> Outcome:
    return Rejected(Fault(type(error).__name__, str(error)))
