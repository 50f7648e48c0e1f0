"""The queue port: the verbs by which jobs move, as Protocols. Two implementations: `jobqueue.memory` (plain dicts)
and `jobqueue.redis.queue` (one Lua script a verb). The conformance suite in tests/queue holds both to the same
promises.

Vocabulary and guards: docs/protocol.md. Elements are the bytes that lie in Redis. All times are ms of the server's
clock. A *trip* is one call of `settle`; trips of a worker are numbered 1, 2, 3 … and a reconcile takes a number of
its own from the same sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from jobqueue.outcome import Ack, Disposition


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job on its way in. `delay_ms` > 0: not before then. `due_ms` > 0: an absolute time instead. `unique`: at
    most one live job holds that key. `deduplicate`: the id was given by the producer, so the same id again within an
    hour is the same enqueue."""

    queue: str
    id: str
    element: bytes
    delay_ms: int = 0
    due_ms: int = 0
    unique: str = ""
    deduplicate: bool = False
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """`id` is the new job's, or the live one's if `duplicate` says that the key (or the id) was taken already."""

    id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to do with one finished job. `element`: the bytes it was claimed as. `unique`: the key it may hold; freed
    where due."""

    disposition: Disposition
    element: bytes
    job_id: str = ""
    unique: str = ""


PLAIN = Settlement(Ack(), b"")
"""A job that succeeded and holds no unique key. Settled by count, so this one object serves them all."""


class Claim(NamedTuple):
    """Answer of a trip. `length`: entries of the home queue's processing list after settling and handing back, before
    claiming. `jobs`: newly claimed, in running order, all from `queue`. `lost`: settlements whose job was not in the
    list any more. `paused`: queues named in the order that are paused. `broken`: those whose ready list is a key of
    another type. `cancelled`: some id is marked as cancelled in `queue`. `refused`: a queue that has jobs and does not
    let this worker claim: it is fenced there, or a reconcile has barred this trip. Then nothing is claimed."""

    length: int
    queue: str
    jobs: Sequence[bytes]
    lost: int
    paused: frozenset[str]
    cancelled: bool
    now_ms: int
    broken: frozenset[str] = frozenset()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`trips`: queue → the last trip that was carried out there. `lists`: queue → what the worker's processing list
    holds, oldest first. Where each queue is on a server of its own (a Cluster), one that did not answer is in neither;
    `owe(queue, done, unanswered trip or 0, last known trip)` leaves the finished jobs of such a queue to the port, which
    settles them when it is back."""

    trips: Mapping[str, int]
    lists: Mapping[str, Sequence[bytes]]
    owe: Callable[[str, Sequence[Settlement], int, int], None] | None = None

    @property
    def applied(self) -> int:
        """The last trip that was carried out."""
        return max(self.trips.values(), default=0)


class ProducerPort(Protocol):
    """What a producer needs."""

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Exception]:
        """Put jobs in, answered one by one in order; a refused one's place holds QueueFull (or ServerRefused), the
        others are in."""

    def register(self, queues: Sequence[str]) -> None:
        """Make the queues known to dashboards. Idempotent."""

    def now_ms(self) -> int:
        """The server's clock."""


class WorkerPort(Protocol):
    """What a worker needs. Raises Unavailable (outcome unknown), ServerRefused, Fenced, Stale."""

    def join(self, worker: str, queues: Sequence[str], lease_ms: int) -> None:
        """Register; must be answered before the first claim. Harmless to repeat for a worker that is registered."""

    def settle(
        self,
        worker: str,
        trip: int,
        applied: int,
        home: str,
        done: Sequence[Settlement],
        keep: int,
        order: Sequence[str],
        want: int,
        return_next: bool,
    ) -> Claim:
        """One trip. Settles `done`: the oldest len(done) entries of the worker's list of queue `home`, oldest first.
        Then keeps `keep` entries and hands all newer ones back to the front of `home`, in order. Then, if the worker
        now holds nothing (keep == 0) and want > 0, claims up to `want` jobs from the first queue in `order` that has
        any and is not paused. `return_next`: what is left in each queue's `next` goes back to its ready list.
        The trip touches the queues in `order` and `home` (claimed from last if it is not among them), no others. `applied`
        is the last trip that `home` has seen: if the server's differs there, Stale. Stale too if it has seen this trip
        or a later one, or a bar. The trip is recorded in `home` and in the queue it claims from, where the same holds:
        a queue that would answer Stale or Fenced is not claimed from (`refused`)."""

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        """Refuse every trip numbered <= bar from now on, and tell what is."""

    def retire(self, worker: str, queues: Sequence[str]) -> bool:
        """Take the worker out; False (and nothing done) in a queue where its list is not empty."""

    def cancelled(self, queue: str, job_ids: Sequence[str]) -> frozenset[str]:
        """Which of these are marked as cancelled; the marks are removed."""


class StewardPort(Protocol):
    """What a steward needs. Same errors."""

    def leases(self, queue: str) -> tuple[dict[str, int], int]:
        """worker → end of its lease, and the server's time, both ms."""

    def fence(self, worker: str, queue: str) -> tuple[int, list[bytes]]:
        """Bar a dead worker's trips from this queue for ever, then tell its last applied one (-1 if unknown) and its list,
        oldest first. Can be repeated with the same answer until `recover` is through."""

    def recover(self, worker: str, queue: str, done: Sequence[Settlement], counter: str) -> int:
        """Carry out each settlement whose element is in its list; forget the worker when the list is empty. Requeues
        go to the front such that their order is kept (`done` is oldest first). Returns how many entries are left
        (more than 0: call again with what `fence` says now). `counter` of the stats grows by the number carried out."""

    def hand_back(self, worker: str, queue: str, trip: int, keep: int) -> int:
        """Move all but the `keep` oldest entries of a live worker's list to the front of the queue; -1 if it made
        another trip."""

    def promote(self, queue: str, limit: int = 1000) -> tuple[int, int, int]:
        """(moved, next due time or 0, server time). Due members of `scheduled` go to the head of the ready list,
        earliest first."""

    def beat(self, queue: str, workers: Sequence[str], lease_ms: int) -> int:
        """Renew leases of those that are still registered; returns how many were."""

    def expire_dead(self, queue: str, ttl_ms: int, limit: int = 1000) -> int:
        """Drop dead letters that are older than that, oldest first; returns how many (`limit`: perhaps there are more)."""

    def return_next(self, queue: str) -> int:
        """What lingers in `next` goes back to the ready list; returns how many."""


AHEAD_MS = 3 * 3_600_000
"""How far the server's clock may be set back and ticks still wait for it to come to the last one; after a larger step they count from the
new time."""


class Ticked(NamedTuple):
    """What became of a tick. `what`: pushed; taken (a live job holds its unique key: no job, but the tick is over); held
    (it, or a later one, was over already); early (by the server's clock it is not due); full (there is no room now).
    `last`: the last tick that is over. `length`: of the ready list, if it is full."""

    what: Literal["pushed", "taken", "held", "early", "full"]
    last: int
    now_ms: int
    length: int = 0


class CronPort(Protocol):
    """What a steward needs for cron entries. `schedule` is kept beside the last tick: with another one an entry is a new one."""

    def last_tick(self, queue: str, name: str, schedule: str) -> tuple[int, int]:
        """(last tick, server time): an entry seen for the first time counts from now. Keeps it from being forgotten."""

    def tick(self, name: str, schedule: str, tick_ms: int, job: NewJob) -> Ticked:
        """Push the job of this tick, if the tick is due and no later one is over: once, whoever asks how often. The job's
        times are not looked at. Raises ServerRefused also when the server's memory is full."""


State = Literal["pending", "scheduled", "processing", "dead"]
