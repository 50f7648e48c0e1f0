"""The worker: claim, execute, settle, for ever. Knows neither Redis nor processes; both come in as small protocols.

One loop, one thread, one job at a time. Settling and claiming are one *trip*. Finished jobs are settled at the end of
a batch, when the claim budget has passed since the last trip, or before a job that is not known to be short; such a
trip hands back what is held, so that nothing ever waits behind a long job. After any error of the connection nothing
is known: a new session reconciles before anything else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jobqueue import codec
from jobqueue.account import Account, Confused
from jobqueue.errors import Fenced, JobQueueError, ServerRefused, Stale, Unavailable, UnsafeServer
from jobqueue.execute import SUCCEEDED, Armed, execute, this_is_the_worker
from jobqueue.job import VERSION, Envelope, Job
from jobqueue.kinds import Kind, Kinds
from jobqueue.outcome import Ack, Bury, Dropped, Fault, Outcome, Rejected, Retry, TooNew, UnknownType
from jobqueue.port import PLAIN, Claim, Settlement, WorkerPort
from jobqueue.retry import decide
from jobqueue.settlement import dispose

LEASE_MS = 12_000
IDLE_LOOK = 30.0  # seconds between trips of a worker nobody wakes
SAFE_NS = 20_000_000  # how long after a trip a held job may still be started: less than a steward waits before it hands jobs back
POLL = 1.0  # the same while a queue is paused or cannot be waited on
Reason = Literal["stopping", "recycle", "fenced"]


class Session(Protocol):
    """One life of the connections; a new one is made after every error."""

    @property
    def port(self) -> WorkerPort: ...

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        """Until a job came (True), the worker is told to stop, or the time is up."""

    def settled(self) -> bool:
        """After the trip that follows a wait: True if one more trip must return what is in `next`."""

    def close(self) -> None: ...


class Board(Protocol):
    """Where the supervisor sees what runs (its scoreboard's row)."""

    def ready(self, flag: bool) -> None: ...
    def claimed(self, trip: int, held: int, queue: bytes) -> None: ...
    def start(
        self,
        number: int,
        started: int,
        held: int,
        start_ns: int,
        soft_ns: int,
        hard_ns: int,
        job_id: bytes,
        type_: bytes,
    ) -> None: ...
    def idle(self, done: int, busy_ns: int) -> None: ...


class Meter(Protocol):
    """Who counts."""

    def ran(
        self, queue: str, type_: str, how: Literal["processed", "retried", "failed"], seconds: Sequence[float]
    ) -> None: ...
    def waited(self, queue: str, seconds: Sequence[float]) -> None: ...
    def lost(self, queue: str, n: int) -> None: ...
    def flush(self) -> None: ...
    def flush_if_due(self, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker lives among. `connect` opens a session or raises; `pause` sleeps that many seconds or until told
    to stop; `log(event, fields)`; `title` shows what runs; `recycle_due(done)` says whether to leave after this
    batch; `turn` is called on each turn of the loop, between jobs."""

    connect: Callable[[], Session]
    pause: Callable[[float], None]
    board: Board
    meter: Meter
    log: Callable[[str, Mapping[str, Any]], None]
    title: Callable[[str], None]
    recycle_due: Callable[[int], bool]
    turn: Callable[[], None] = lambda: None


class Worker:
    """`queues` in claiming order; with `weights` the order is drawn anew for each trip."""

    def __init__(
        self,
        name: str,
        queues: Sequence[str],
        weights: Sequence[int] | None,
        kinds: Kinds,
        around: Surroundings,
        rng: random.Random,
    ) -> None:
        self.name, self.queues, self.weights = name, tuple(queues), weights
        self.kinds, self.around, self.rng = kinds, around, rng
        self.armed = Armed()
        self.current: Envelope | None = None  # what runs, for the context of log lines
        self.stopping = False  # set by the signal handler
        self.done = self.number = self.busy_ns = 0
        self._account = Account(self.queues[0])
        self._session: Session | None = None
        self._joined = False
        self._since = self._claimed_ns = 0
        self._now_ms = 0
        self._last: Claim | None = None
        self._touched: list[Kind] = []
        self._waits: list[float] = []
        self._outage = False
        self._delay = 0.0
        self._unknown: set[str] = set()

    # ------------------------------------------------------------------ the loop

    def run(self) -> Reason:
        """Work until told to stop (`stopping`), due for recycling, or fenced. What is held is handed back."""
        this_is_the_worker()
        woken = waited = False
        while True:
            try:
                self.around.turn()
                session = self._connected()
                if session is None:
                    return "stopping"
                leaving = self._leaving()
                self._trip(session, want=0 if leaving else self.kinds.want(), return_next=woken or bool(leaving))
                if waited and session.settled():
                    self._trip(session, keep=len(self._account.held), want=0, return_next=True)
                waited = woken = False
                if leaving:
                    return self._retire(session, leaving)
                if self._account.held:
                    self._batch(session)
                elif not self._leaving():
                    woken, waited = self._wait(session), True
            except Fenced:
                self._end_session()
                return "fenced"
            except Confused as confused:
                self.around.log("worker_confused", {"cause": str(confused)})
                self._end_session()
                return "fenced"
            except (Unavailable, ServerRefused, UnsafeServer) as error:
                self._broken(error)
                woken = waited = False

    def _leaving(self) -> Reason | None:
        if self.stopping:
            return "stopping"
        return "recycle" if self.around.recycle_due(self.done) else None

    def _connected(self) -> Session | None:
        """The session, joined and reconciled; None if told to stop while there is none and nothing to settle."""
        if self._session is None and self._delay:
            if self.stopping and self._account.empty:
                return None
            self.around.pause(self._delay * (0.5 + self.rng.random() / 2))
        if self._session is None:
            self._session = self.around.connect()
            if not self._joined:
                self._session.port.join(self.name, self.queues, LEASE_MS)
                self._joined = True
            if self._account.number:
                self._reconcile(self._session)
            self.around.board.ready(True)
            if self._outage:
                self.around.log("redis_back", {})
            self._outage, self._delay = False, 0.0
        return self._session

    def _broken(self, error: JobQueueError) -> None:
        """Whatever went wrong, this session is over. One log line when an outage begins, one when it ends."""
        self._end_session()
        self.around.board.ready(False)
        if not self._outage:
            self._outage = True
            self.around.log("redis_lost", {"cause": str(error)})
        self._delay = min(1.0, self._delay * 2 or 0.01)

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _retire(self, session: Session, reason: Reason) -> Reason:
        session.port.retire(self.name, self.queues)
        self.around.meter.flush()
        self._end_session()
        return reason

    def _wait(self, session: Session) -> bool:
        self.around.meter.flush()
        self.around.title("idle")
        assert self._last is not None
        deaf = self._last.paused | self._last.broken
        return session.wait([q for q in self.queues if q not in deaf], POLL if deaf else IDLE_LOOK)

    # ------------------------------------------------------------------ trips

    def _trip(
        self, session: Session, *, keep: int = 0, want: int, return_next: bool = False, again: bool = False
    ) -> None:
        """Settle what is done, hand back all but `keep`, claim. Raises Fenced, Unavailable, ServerRefused, Confused."""
        account = self._account
        trip = account.depart()
        try:
            claim = session.port.settle(
                self.name, trip, account.applied, account.home, account.done, keep, self._order(), want, return_next
            )
        except Stale:
            if again:
                raise Confused("the server refuses every trip though none is outstanding") from None
            self._reconcile(session)
            self._trip(session, want=want, return_next=return_next, again=True)
            return
        if claim.lost:
            self.around.meter.lost(account.home, claim.lost)
        if claim.broken - (self._last.broken if self._last else frozenset()):
            self.around.log(
                "queue_broken", {"queues": sorted(claim.broken), "cause": "its ready list is a key of another type"}
            )
        account.arrive(claim)
        self._last, self._now_ms = claim, claim.now_ms
        self._since = time.monotonic_ns()
        if claim.jobs:
            self._claimed_ns = self._since
        self.around.board.claimed(trip, len(account.held), account.home.encode())
        self._count()

    def _order(self) -> Sequence[str]:
        """Strict: as configured. Weighted: a queue comes first as often as its weight says (Efraimidis and Spirakis,
        2006)."""
        if self.weights is None:
            return self.queues
        draw = self.rng.random
        keyed = [(-(draw() ** (1 / w)) if w else 0.0, q) for q, w in zip(self.queues, self.weights, strict=True)]
        return [q for _, q in sorted(keyed)]

    def _reconcile(self, session: Session) -> None:
        """Have every older trip refused for ever, then see which was the last and what is ours."""
        account = self._account
        found = session.port.reconcile(self.name, account.bar(), self.queues)
        lost = account.reconcile(found)
        if lost:
            self.around.meter.lost(account.home, lost)
        # Nothing held is run before the next trip: it hands everything back and claims anew.

    def _count(self) -> None:
        """What the answered trip has made final."""
        meter = self.around.meter
        for kind in self._touched:
            meter.ran(kind.queue, kind.type, "processed", kind.durations)
            kind.durations.clear()
        self._touched.clear()
        if self._waits:
            meter.waited(self._account.home, self._waits)
            self._waits.clear()
        meter.flush_if_due(self._since / 1e9)

    # ------------------------------------------------------------------ a batch

    def _batch(self, session: Session) -> None:
        """Run what was claimed, oldest first. Returns when nothing is held, or the rest is to be handed back by the
        next trip."""
        account, queue, raw = self._account, self._account.home, self.kinds.raw_type(self._account.home)
        held, done, known = account.held, account.done, self.kinds.known(queue)
        cancelled = self._cancelled(session, queue, raw)
        now = self._since
        settle_at = now + int(self.kinds.budget * 1e9)
        while held and not self.stopping:
            if now > settle_at and done:
                break
            element = held[0]
            try:
                envelope = codec.decode(element, raw_type=raw)
                malformed = None
            except codec.Malformed as error:
                envelope, malformed = error.envelope, error
            kind = known.get(envelope.type) or self.kinds.get(queue, envelope.type)
            if not kind.short and (done or len(held) > 1):
                self.around.board.idle(self.done, self.busy_ns)
                self._trip(session, keep=1, want=0)
                now = self._since
                settle_at = now + int(self.kinds.budget * 1e9)
                if not held:
                    break
            held.popleft()
            account.started += 1
            refusal: Outcome | None = None
            if malformed or cancelled or kind.call is None or envelope.expires_at or envelope.v > VERSION:
                refusal = self._refusal(kind, envelope, malformed, cancelled)
            now = self._one(kind, envelope, element, refusal, now)
            if not now:
                break
        self.around.board.idle(self.done, self.busy_ns)

    def _cancelled(self, session: Session, queue: str, raw: str | None) -> frozenset[str]:
        if self._last is None or not self._last.cancelled:
            return frozenset()
        ids = []
        for element in self._account.held:
            try:
                ids.append(codec.decode(element, raw_type=raw).id)
            except codec.Malformed:
                continue
        return session.port.cancelled(queue, [job_id for job_id in ids if job_id])

    def _refusal(
        self, kind: Kind, envelope: Envelope, malformed: codec.Malformed | None, cancelled: frozenset[str]
    ) -> Outcome | None:
        """Why this job is not to be run now, if so."""
        if malformed is not None:
            return Rejected(Fault("Malformed", str(malformed)))
        if envelope.id and envelope.id in cancelled:
            return Dropped("cancelled")
        if codec.newer(envelope):
            return TooNew(envelope.v)
        if envelope.expires_at and envelope.expires_at <= self._server_ms():
            return Dropped("expired")
        if kind.handler is not None:
            return None
        if envelope.type not in self._unknown and len(self._unknown) < 1000:
            self._unknown.add(envelope.type)
            self.around.log("unknown_type", {"type": envelope.type, "queue": kind.queue})
        return UnknownType(envelope.type)

    def _server_ms(self) -> int:
        return self._now_ms + (time.monotonic_ns() - self._claimed_ns) // 1_000_000

    def _one(self, kind: Kind, envelope: Envelope, element: bytes, refusal: Outcome | None, start: int) -> int:
        """Run one job and note its settlement. `start`: when the one before ended; returns when this one did (ns), or
        0 if it must not be started any more."""
        self.number += 1
        begun = start
        if refusal is None:
            account = self._account
            soft, hard = kind.limits(envelope, start)
            self.current = envelope
            left = len(account.held)
            self.around.board.start(
                self.number,
                account.started,
                left,
                start,
                soft,
                hard,
                envelope.id.encode("utf-8", "replace"),
                kind.type_bytes,
            )
            # The clock is read after the row is written. This process may have been held up in between, so long that
            # the steward, who still saw the job before, has handed this one back: then a trip tells what is ours.
            begun = time.monotonic_ns()
            if begun - self._since > SAFE_NS and account.started > 1:
                account.started -= 1
                account.held.appendleft(element)
                self.current = None
                return 0
            if not (left or kind.short):
                self.around.title(f"{kind.type} {envelope.id[:6]}")
            payload = envelope.payload if kind.raw is None else codec.body(element)
            job = self._job(kind, envelope, bytes(payload), soft) if kind.wants_job else None
            outcome = execute(kind.call, payload, job, self.armed, self.number)  # type: ignore[arg-type]
            self.current = None
        else:
            outcome = refusal
        end = time.monotonic_ns()
        seconds = (end - begun) * 1e-9
        self.kinds.ran(kind, seconds)
        self.done += 1
        self.busy_ns += end - begun
        if envelope.enqueued_at and not envelope.attempt:
            self._waits.append((self._now_ms - envelope.enqueued_at) * 1e-3 + (start - self._claimed_ns) * 1e-9)
        if outcome is SUCCEEDED:
            if not kind.durations:
                self._touched.append(kind)
            kind.durations.append(seconds)
            self._account.done.append(
                Settlement(Ack(), element, envelope.id, envelope.unique) if envelope.unique else PLAIN
            )
        else:
            self._failed(kind, envelope, element, outcome, seconds)
        return end

    def _job(self, kind: Kind, envelope: Envelope, payload: bytes, soft_ns: int) -> Job:
        return Job(
            id=envelope.id,
            type=kind.type,
            queue=kind.queue,
            attempt=envelope.attempt + 1,
            max_attempts=kind.policy_for(envelope).max_attempts,
            crashes=envelope.crashes,
            enqueued_at=envelope.enqueued_at,
            deadline=soft_ns / 1e9 if soft_ns else None,
            payload=payload,
            headers=envelope.headers,
        )

    def _failed(self, kind: Kind, envelope: Envelope, element: bytes, outcome: Outcome, seconds: float) -> None:
        """Any other end than success: decide, and note the settlement the next trip carries."""
        decision = decide(
            outcome,
            attempt=envelope.attempt,
            crashes=envelope.crashes,
            policy=kind.policy_for(envelope),
            rnd=self.rng.random(),
        )
        settlement = dispose(
            decision,
            element,
            envelope,
            raw_type=kind.raw,
            now_ms=self._server_ms(),
            new_id=envelope.id or codec.new_id(),
        )
        self._account.done.append(settlement)
        match settlement.disposition:
            case Retry():
                self.around.meter.ran(kind.queue, kind.type, "retried", [seconds])
            case Bury():
                self.around.meter.ran(kind.queue, kind.type, "failed", [seconds])
            case _:
                pass
