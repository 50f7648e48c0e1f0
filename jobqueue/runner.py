"""Runs one job and notes how it ended.

Not the loop and not the trips (`jobqueue.worker`, the only caller). What is noted here is settled by the next trip,
and counted once that is answered. This is the hot path: what can be looked up once is looked up once, in
`jobqueue.kinds`.
"""

from __future__ import annotations

import random
import time

from jobqueue import codec
from jobqueue.account import Account
from jobqueue.execute import SUCCEEDED, Armed, execute
from jobqueue.job import Envelope, Job
from jobqueue.kinds import Kind, Kinds
from jobqueue.outcome import Ack, Bury, Dropped, Fault, Outcome, Rejected, Retry, TooNew, UnknownType
from jobqueue.port import PLAIN, Claim, Settlement
from jobqueue.retry import decide
from jobqueue.settlement import dispose
from jobqueue.surroundings import Surroundings

IDLE, BUSY = "idle", "busy"
REPORT_NS = 100_000_000
"""Between two reports to the metrics: what a killed worker may take along."""
SAFE_NS = 20_000_000
"""How long after a trip a held job may still be started: less than a steward waits before it hands jobs back."""


class Runner:
    """`current`: what runs, for the context of log lines. `since`: when the last trip was answered (monotonic ns); `ended`:
    when the last job ended. `number`: of the job that runs, or ran last. `done`, `busy_ns`: jobs run so far, and the time
    spent in them. `uneasy`: a job failed since that was last looked at, perhaps for what is wrong with this process."""

    def __init__(self, account: Account, kinds: Kinds, around: Surroundings, rng: random.Random) -> None:
        self._account, self._kinds, self._around, self._rng = account, kinds, around, rng
        self.armed = Armed()
        self.current: Envelope | None = None
        self.number = self.done = self.busy_ns = self.since = self.ended = 0
        self.uneasy = self._named = self._resting = False
        self._now_ms = self._report_at = 0
        self._touched: list[Kind] = []
        self._unknown: set[str] = set()

    def answered(self, claim: Claim) -> None:
        """A trip was: what it settled is final, and is counted some moments later at the most."""
        self.since = time.monotonic_ns()
        self._now_ms = claim.now_ms
        if self._touched and self.since >= self._report_at:
            self.report()

    def report(self) -> None:
        """Have everything counted so far seen by others. For after an answered trip."""
        meter = self._around.meter
        for kind in self._touched:
            kind.touched = False
            if kind.durations:
                meter.ran(kind.queue, kind.type, "processed", kind.durations)
                kind.durations.clear()
            if kind.waits:
                meter.waited(kind.queue, kind.waits)
                kind.waits.clear()
        self._touched.clear()
        meter.flush()
        self._report_at = self.since + REPORT_NS

    def idle(self) -> None:
        """Tell the scoreboard that nothing runs."""
        self._around.board.idle(self.done, self.busy_ns)

    def show(self, title: str, *, named: bool = False) -> None:
        """In the process's title: a job (`named`), or what this worker does in general."""
        self._around.title(title)
        self._named, self._resting = named, title == IDLE

    def busy(self) -> None:
        """This worker has been at work for a while, with jobs too brief for a title of their own."""
        if self._resting:
            self.show(BUSY)

    def refusal(
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
            self._around.log("unknown_type", {"type": envelope.type, "queue": kind.queue})
        return UnknownType(envelope.type)

    def run(self, kind: Kind, envelope: Envelope, element: bytes, refusal: Outcome | None, start: int) -> int:
        """Run one job and note its settlement. `start`: when the one before ended; returns when this one did (ns), or
        0 if it must not be started any more."""
        self.number += 1
        begun = start
        if refusal is None:
            account = self._account
            soft, hard = kind.limits(envelope, start)
            self.current = envelope
            left = len(account.held)
            self._around.board.start(
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
            if begun - self.since > SAFE_NS and account.started > 1:
                account.started -= 1
                account.held.appendleft(element)
                self.current = None
                return 0
            if not (left or kind.short or kind.brief):
                self.show(f"{kind.type} {envelope.id[:6]}", named=True)
            elif self._named:
                self.show(BUSY)
            payload = envelope.payload if kind.raw is None else codec.body(element)
            job = self._job(kind, envelope, bytes(payload), soft) if kind.wants_job else None
            outcome = execute(kind.call, payload, job, self.armed, self.number)  # type: ignore[arg-type]
            self.current = None
        else:
            outcome = refusal
        self.ended = end = time.monotonic_ns()
        seconds = (end - begun) * 1e-9
        self._kinds.ran(kind, seconds)
        self.done += 1
        self.busy_ns += end - begun
        if not kind.touched:
            kind.touched = True
            self._touched.append(kind)
        if envelope.enqueued_at and not envelope.attempt:
            kind.waits.append((self._now_ms - envelope.enqueued_at) * 1e-3 + (start - self.since) * 1e-9)
        if outcome is SUCCEEDED:
            kind.durations.append(seconds)
            self._account.done.append(
                Settlement(Ack(), element, envelope.id, envelope.unique) if envelope.unique else PLAIN
            )
        else:
            self.uneasy = True
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
            rnd=self._rng.random(),
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
                self._around.meter.ran(kind.queue, kind.type, "retried", [seconds])
            case Bury():
                self._around.meter.ran(kind.queue, kind.type, "failed", [seconds])
            case _:
                pass

    def _server_ms(self) -> int:
        return self._now_ms + (time.monotonic_ns() - self.since) // 1_000_000
