"""The worker: claim, execute, settle, for ever. Knows neither Redis nor processes; both come in as small protocols.

One loop, one thread, one job at a time. Settling and claiming are one *trip*. Finished jobs are settled at the end of
a batch, when the claim budget has passed since the last trip, or before a job that is not known to be short; such a
trip hands back what is held, so that nothing ever waits behind a long job. After any error of the connection nothing
is known: a new session reconciles before anything else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Literal

from jobqueue import codec
from jobqueue.account import Account, Confused
from jobqueue.errors import Fenced, JobQueueError, ServerRefused, Stale, Unavailable, UnsafeServer
from jobqueue.execute import this_is_the_worker
from jobqueue.job import VERSION
from jobqueue.kinds import Kinds
from jobqueue.order import Order
from jobqueue.outcome import Outcome
from jobqueue.port import Claim
from jobqueue.runner import IDLE, Runner
from jobqueue.surroundings import Session, Surroundings

LEASE_MS = 12_000
IDLE_LOOK = 30.0  # seconds between trips of a worker nobody wakes
TURN_NS = 50_000_000  # between two looks at what jobs did to the process
OWING = 0.1  # seconds between trips of a worker that would leave but still owes settlements
POLL = 1.0  # the same while a queue is paused or cannot be waited on
Reason = Literal["stopping", "recycle", "fenced"]


class Worker:
    """One worker's life. `queues`, `weights`: see Order."""

    def __init__(
        self,
        name: str,
        queues: Sequence[str],
        weights: Sequence[int] | None,
        kinds: Kinds,
        around: Surroundings,
        rng: random.Random,
    ) -> None:
        self.name, self.queues = name, tuple(queues)
        self.kinds, self.around, self.rng = kinds, around, rng
        self.stopping = False  # set by the signal handler
        self._order = Order(queues, weights, rng, kinds.budget)
        self._account = Account(self.queues[0])
        self.runner = Runner(self._account, kinds, around, rng)
        self._session: Session | None = None
        self._joined = False
        self._last: Claim | None = None
        self._unreadable: frozenset[str] = frozenset()
        self._turn_at = 0
        self._outage = False
        self._delay = 0.0

    # ------------------------------------------------------------------ the loop

    def run(self) -> Reason:
        """Work until told to stop (`stopping`), due for recycling, or fenced. What is held is handed back."""
        this_is_the_worker()
        woken: Sequence[str] = ()
        waited = False
        while True:
            try:
                self._turn()
                session = self._connected()
                if session is None:
                    return "stopping"
                leaving = self._leaving()
                found = True
                if leaving:
                    self._trip(session, self._order.all(), want=0, return_next=True)
                else:
                    found = self._claim(session, woken)
                if waited and session.settled():
                    self._trip(session, self._order.all(), keep=len(self._account.held), want=0, return_next=True)
                waited, woken = False, ()
                if leaving and session.owes():  # for as long as whoever stops us has patience
                    self.around.turn()
                    self.around.pause(OWING)
                elif leaving:
                    return self._retire(session, leaving)
                elif self._account.held:
                    self._batch(session)
                elif found:
                    waited = True
                    woken = self._wait(session)
            except Fenced:
                self._end_session()
                return "fenced"
            except Confused as confused:
                self.around.log("worker_confused", {"cause": str(confused)})
                self._end_session()
                return "fenced"
            except (Unavailable, ServerRefused, UnsafeServer) as error:
                self._broken(error)
                waited, woken = False, ()

    def _turn(self, *, now: bool = False) -> None:
        """What a job may have done to this process is looked after before it waits, after a job that failed, and else every 50 ms."""
        runner = self.runner
        if now or runner.uneasy or runner.ended >= self._turn_at:
            self.around.turn()
            if not now:
                runner.busy()
            runner.uneasy = False
            self._turn_at = runner.ended + TURN_NS

    def _leaving(self) -> Reason | None:
        if self.stopping:
            return "stopping"
        return "recycle" if self.around.recycle_due(self.runner.done) else None

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
        self._turn_at = 0

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _retire(self, session: Session, reason: Reason) -> Reason:
        session.port.retire(self.name, self.queues)
        self.runner.report()
        self._end_session()
        return reason

    def _wait(self, session: Session) -> Sequence[str]:
        """The queues that a job came for."""
        self._turn(now=True)
        if self._leaving():
            return ()
        self.runner.report()
        self.runner.show(IDLE)
        assert self._last is not None
        deaf = self._last.paused | self._last.broken
        woken = session.wait([q for q in self.queues if q not in deaf], POLL if deaf else IDLE_LOOK)
        self._turn_at = time.monotonic_ns() + TURN_NS
        return woken

    # ------------------------------------------------------------------ trips

    def _claim(self, session: Session, woken: Sequence[str]) -> bool:
        """Settle what is done and claim; what has ended a wait (`woken`: queues), or else by order. False: nothing is held, and not
        every queue was looked at."""
        order, account, want = self._order, self._account, self.kinds.want()
        named = order.woken(woken) if woken else order.claiming(account.home, want, self.runner.ended)
        self._trip(session, named, want=want, return_next=bool(woken))
        return order.found(named, account.home if account.held else None)

    def _trip(
        self,
        session: Session,
        order: Sequence[str],
        *,
        keep: int = 0,
        want: int,
        return_next: bool = False,
        again: bool = False,
    ) -> None:
        """Settle what is done, hand back all but `keep`, claim. Raises Fenced, Unavailable, ServerRefused, Confused."""
        account = self._account
        trip = account.depart()
        try:
            claim = session.port.settle(
                self.name, trip, account.applied, account.home, account.done, keep, order, want, return_next
            )
        except Stale:
            if again:
                raise Confused("the server refuses every trip though none is outstanding") from None
            self._reconcile(session)
            self._trip(session, order, want=want, return_next=return_next, again=True)
            return
        if claim.lost:
            self.around.meter.lost(account.home, claim.lost)
        if want and (claim.broken or self._unreadable):
            self._tell_broken(order, claim.broken)
        account.arrive(claim)
        self._last = claim
        self.around.board.claimed(trip, len(account.held), account.home.encode())
        self.runner.answered(claim)
        if claim.refused:
            raise Fenced(self.name)

    def _tell_broken(self, order: Sequence[str], broken: frozenset[str]) -> None:
        if broken - self._unreadable:
            self.around.log(
                "queue_broken", {"queues": sorted(broken), "cause": "its ready list is a key of another type"}
            )
        self._unreadable = self._unreadable.difference(order) | broken

    def _reconcile(self, session: Session) -> None:
        """Have every older trip refused for ever, then see which was the last and what is ours."""
        account = self._account
        found = session.port.reconcile(self.name, account.bar(), self.queues)
        lost = account.reconcile(found)
        if lost:
            self.around.meter.lost(account.home, lost)
        # Nothing held is run before the next trip: it hands everything back and claims anew.

    # ------------------------------------------------------------------ a batch

    def _batch(self, session: Session) -> None:
        """Run what was claimed, oldest first. Returns when nothing is held, or the rest is to be handed back by the
        next trip."""
        account, runner = self._account, self.runner
        queue = account.home
        raw = self.kinds.raw_type(queue)
        held, done, known = account.held, account.done, self.kinds.known(queue)
        cancelled = self._cancelled(session, queue, raw)
        now = runner.since
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
                runner.idle()
                self._trip(session, (queue,), keep=1, want=0)
                now = runner.since
                settle_at = now + int(self.kinds.budget * 1e9)
                if not held:
                    break
            held.popleft()
            account.started += 1
            refusal: Outcome | None = None
            if malformed or cancelled or kind.call is None or envelope.expires_at or envelope.v > VERSION:
                refusal = runner.refusal(kind, envelope, malformed, cancelled)
            now = runner.run(kind, envelope, element, refusal, now)
            if not now:
                break
        runner.idle()

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
