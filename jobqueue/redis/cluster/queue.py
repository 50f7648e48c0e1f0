"""The worker's port in a Cluster: a trip is carried out queue by queue, each by the same script as anywhere else, on that queue's shard.

The home queue is always asked first: until its finished jobs are settled and what is not kept is handed back, nothing is claimed elsewhere.
So a worker never runs jobs of two queues. What can be in two lists at once is a claim whose reply was lost: nobody has seen it, so nobody
has started it; its queue is `away` (see `standing`) until it can be asked, and then it is handed back before anything else.

Everything but trips (join, reconcile, retire) is one script a queue anyhow; here a shard that does not answer costs only its own queues.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jobqueue.errors import Fenced, JobQueueError, ServerRefused, Stale, Unavailable
from jobqueue.port import Claim, Reconciled, Settlement
from jobqueue.redis import scripts
from jobqueue.redis.cluster.standing import Standing
from jobqueue.redis.cluster.wire import ClusterWire, Command
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.workerverbs import NONE
from jobqueue.settings import QueueSettings

LOOKED = 3  # commands of one look at a queue


class Look(NamedTuple):
    """What one glance at a queue without a script told."""

    jobs: bool
    paused: bool


class ClusterQueue(RedisQueue):
    """See WorkerPort; the steward's verbs are the plain ones, routed. `standing` outlives this object and its connections."""

    def __init__(
        self,
        wire: ClusterWire,
        prefix: str,
        settings: Mapping[str, QueueSettings],
        version: tuple[int, ...],
        standing: Standing,
    ) -> None:
        super().__init__(wire, prefix, settings, version)
        self.wire, self.standing = wire, standing

    def _ask_all(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """One verb for several queues, all shards at the same time; what went wrong stands in its place."""
        commands = [self._command(name, keys, args) for keys, args in calls]
        replies = self.wire.scatter(commands)
        untaught = [i for i, r in enumerate(replies) if isinstance(r, ServerRefused) and r.code == "NOSCRIPT"]
        source = scripts.load(name, self.version).source
        again = self.wire.scatter([["EVAL", source, *commands[i][2:]] for i in untaught]) if untaught else []
        for i, reply in zip(untaught, again, strict=True):
            replies[i] = reply
        return replies

    # ------------------------------------------------------------------ coming, coming back, going

    def join(self, worker: str, queues: Sequence[str], lease_ms: int) -> None:
        """See WorkerPort. A queue whose shard does not answer is joined when it does; raises only if none answers."""
        self._lease_ms = lease_ms
        replies = self._join(worker, queues)
        for queue, reply in zip(queues, replies, strict=True):
            if queue in self.standing.joined:
                self.standing.admit(queue, self.standing.chain.get(queue, 0), queue in self.standing.full)
            elif isinstance(reply, JobQueueError):
                self.standing.lose(queue, time.monotonic())
        if not self.standing.chain:
            raise next(reply for reply in replies if isinstance(reply, JobQueueError))

    _lease_ms = 12_000

    def _join(self, worker: str, queues: Sequence[str]) -> list[Any]:
        calls = [([self.keys(q).workers, self.keys(q).leases], [worker, self._lease_ms]) for q in queues]
        replies = self._ask_all("join", calls)
        self.standing.joined |= {q for q, r in zip(queues, replies, strict=True) if not isinstance(r, JobQueueError)}
        return replies

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        """See WorkerPort. Queues whose shard does not answer are `away`; raises Unavailable only if none answers."""
        self.standing.bar = bar
        lists, failed = self._reconcile(worker, bar, queues)
        if not lists:
            raise next(iter(failed.values()))
        trips = {q: self.standing.chain[q] for q in lists}
        # The list of a queue with a debt is the port's business.
        shown = {q: [] if q in self.standing.debts else found for q, found in lists.items()}
        return Reconciled(trips, shown, self.standing.owe)

    def _reconcile(
        self, worker: str, bar: int, queues: Sequence[str]
    ) -> tuple[dict[str, list[bytes]], dict[str, JobQueueError]]:
        """Lists of the queues that answered, which are admitted now, and what was wrong with the others. Raises Fenced."""
        standing, now = self.standing, time.monotonic()
        # Never joined is joined now. Once joined is never joined again: that would bring a fenced worker back.
        failed: dict[str, JobQueueError] = {}
        if absent := [q for q in queues if q not in standing.joined]:
            failed |= _failures(absent, self._join(worker, absent))
        asked = [q for q in queues if q in standing.joined]
        calls = [([self.keys(q).processing(worker), self.keys(q).workers], [worker, bar]) for q in asked]
        replies = self._ask_all("reconcile", calls)
        failed |= _failures(asked, replies)
        lists: dict[str, list[bytes]] = {}
        for queue, reply in zip(asked, replies, strict=True):
            if isinstance(reply, bytes):
                raise Fenced(worker)
            if queue not in failed:
                lists[queue] = reply[1][::-1]
                standing.admit(queue, reply[0], len(reply[1]))
        for queue in failed:
            standing.lose(queue, now)
        return lists, failed

    def retire(self, worker: str, queues: Sequence[str]) -> bool:
        """See WorkerPort. Where a shard does not answer the worker stays registered: a steward finds that its process is gone."""
        calls = []
        for queue in queues:
            k = self.keys(queue)
            calls.append(([k.processing(worker), k.workers, k.leases], [worker]))
        return all(reply == 1 for reply in self._ask_all("retire", calls))

    # ------------------------------------------------------------------ trips

    def settle(
        self,
        worker: str,
        trip: int,
        applied: int,  # noqa: ARG002
        home: str,
        done: Sequence[Settlement],
        keep: int,
        order: Sequence[str],
        want: int,
        return_next: bool,
    ) -> Claim:
        """See WorkerPort. `applied` is not asked for: `standing` has it queue by queue. Raises Unavailable, ServerRefused and Stale for the
        home queue alone; Fenced for any."""
        standing = self.standing
        if not (standing.joined or standing.away):
            raise Fenced(worker)
        if trip <= max(standing.bar, *standing.chain.values(), 0):
            raise Stale(worker, trip)
        lost = self._tidy(worker, trip, home, done)
        visit = _Visit(self, worker, trip, want, return_next)
        owed = bool(done) or home in standing.full
        if owed and home not in standing.chain:
            raise Unavailable(self.wire.shown, f"the shard of queue {home!r} does not answer", sent=False)
        place = order.index(home) if home in order else len(order)
        ahead = visit.promising(order[:place]) if want else []
        if home in standing.chain and standing.chain[home] < trip and (owed or (want and not ahead)):
            visit.home(home, done, keep, claim=bool(want) and not ahead)
        if want and not visit.length:
            for queue in ahead or ([] if visit.jobs else visit.promising([q for q in order[place:] if q != home])):
                # A claim whose reply is lost may have jobs in its list: nothing else is begun before it is asked for them.
                if visit.jobs or not visit.claim(queue):
                    break
        if return_next:
            self._return_next([q for q in order if q not in visit.seen])
        visit.lost += lost
        return visit.answer(home)

    def _tidy(self, worker: str, trip: int, home: str, done: Sequence[Settlement]) -> int:
        """What has to be put in order before this trip: queues that come back, their debts and lists. Returns how many debts were lost.
        Raises Fenced."""
        standing = self.standing
        try:
            if standing.away and (due := standing.due(time.monotonic())):
                self._reconcile(worker, trip - 1, due)  # every trip they may have seen is barred
        except Fenced:
            if done and home in standing.chain:  # what is finished is settled where it still may be
                self.one(worker, trip, home, done, 0, 0, False)
            raise
        # Jobs in another list than the home queue's were claimed by a trip whose reply was lost: nobody has started them.
        lost = 0
        for queue in [q for q in standing.chain if q in standing.debts or (q in standing.full and q != home)]:
            debt = standing.debts.get(queue)
            try:
                lost += self.one(worker, trip, queue, debt.done if debt else (), 0, 0, False).lost
                standing.debts.pop(queue, None)
            except (Unavailable, ServerRefused, Stale):
                if debt is not None:
                    debt.unanswered = trip
                standing.lose(queue, time.monotonic())
        return lost

    def one(
        self, worker: str, trip: int, queue: str, done: Sequence[Settlement], keep: int, want: int, return_next: bool
    ) -> Claim:
        """The trip's part at one queue: the script of everywhere, with this queue as home and as all there is."""
        standing = self.standing
        claim = RedisQueue.settle(
            self, worker, trip, standing.chain[queue], queue, done, keep, (queue,), want, return_next
        )
        standing.admit(queue, trip, claim.length + len(claim.jobs))
        return claim

    def look(self, queues: Sequence[str]) -> dict[str, Look]:
        """Who has jobs, who is paused: no script, all shards at the same time. Who does not answer is away."""
        commands: list[Command] = []
        for queue in queues:
            k = self.keys(queue)
            commands += [("EXISTS", k.pending), ("EXISTS", k.next), ("EXISTS", k.paused)]
        replies, found = self.wire.scatter(commands), {}
        for i, queue in enumerate(queues):
            answers = replies[i * LOOKED : (i + 1) * LOOKED]
            if any(isinstance(answer, JobQueueError) for answer in answers):
                self.standing.lose(queue, time.monotonic())
            else:
                found[queue] = Look(bool(answers[0] or answers[1]), bool(answers[2]))
        return found

    def _return_next(self, queues: Sequence[str]) -> None:
        """What other parked calls of this worker have moved goes back. Queues whose script this trip ran have seen to it themselves."""
        queues = [q for q in queues if q in self.standing.chain]
        replies = self._ask_all("return_next", [([self.keys(q).next, self.keys(q).pending], []) for q in queues])
        for queue, failure in _failures(queues, replies).items():
            if not (isinstance(failure, ServerRefused) and failure.code == "WRONGTYPE"):
                self.standing.lose(queue, time.monotonic())


class _Visit:
    """One trip on its way through the queues, and what it has found so far."""

    def __init__(self, port: ClusterQueue, worker: str, trip: int, want: int, return_next: bool) -> None:
        self._port, self._worker, self._trip = port, worker, trip
        self._want, self._return_next = want, return_next
        self.queue, self.length, self.lost, self.now_ms, self.cancelled = "", 0, 0, 0, False
        self.jobs: Sequence[bytes] = ()
        self.seen: set[str] = set()  # queues whose script was run
        self.paused: frozenset[str] = NONE
        self.broken: frozenset[str] = NONE

    def promising(self, queues: Sequence[str]) -> list[str]:
        """Those of them that have jobs to give, in their order."""
        asked = self._port.standing.claimable(queues, self._trip)
        if not asked:
            return []
        found = self._port.look(asked)
        self.paused |= {queue for queue, look in found.items() if look.paused}
        return [queue for queue in asked if queue in found and found[queue].jobs and not found[queue].paused]

    def home(self, queue: str, done: Sequence[Settlement], keep: int, *, claim: bool) -> None:
        """Raises whatever the home queue has to say."""
        want = self._want if claim else 0
        self._take(queue, self._port.one(self._worker, self._trip, queue, done, keep, want, self._return_next))

    def claim(self, queue: str) -> bool:
        """At another queue than home: if it does not answer, only it is away. False: it may have claimed, nobody knows. Raises Fenced."""
        try:
            claim = self._port.one(self._worker, self._trip, queue, (), 0, self._want, self._return_next)
        except (Unavailable, ServerRefused, Stale) as error:
            self._port.standing.lose(queue, time.monotonic())
            return not (isinstance(error, Unavailable) and error.sent)
        self._take(queue, claim._replace(length=0))
        return True

    def _take(self, queue: str, claim: Claim) -> None:
        self.seen.add(queue)
        self.length, self.lost, self.now_ms = claim.length, self.lost + claim.lost, claim.now_ms
        self.paused |= claim.paused
        self.broken |= claim.broken
        if claim.jobs:
            self.queue, self.jobs, self.cancelled = queue, claim.jobs, claim.cancelled

    def answer(self, home: str) -> Claim:
        queue = self.queue or home
        now_ms = self.now_ms or self._port.now_ms()
        return Claim(
            self.length, queue, self.jobs, self.lost, self.paused, self.cancelled, now_ms, self.broken
        )  # fmt: skip


def _failures(queues: Sequence[str], replies: Sequence[Any]) -> dict[str, JobQueueError]:
    return {q: reply for q, reply in zip(queues, replies, strict=True) if isinstance(reply, JobQueueError)}
