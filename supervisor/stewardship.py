"""The steward's duties towards Redis: recover, promote, beat, hand back, sweep. One connection's life long, without a
loop of its own.

Not the process around it (`supervisor.roles.steward`), which reconnects after any error and calls these again: each
duty can be repeated. Works on any StewardPort. Several stewards of several hosts may do the same at the same time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from jobqueue.errors import JobQueueError
from jobqueue.handlers import TypePolicy
from jobqueue.port import StewardPort
from jobqueue.settings import QueueSettings
from supervisor import identity
from supervisor.recovery import Told, settlements
from supervisor.scoreboard import Row, Scoreboard

LEASE: Final = 12.0  # seconds
LONG: Final = 0.025  # seconds a job may run before what is held behind it is handed back; above the largest claim_budget, or it could race
STEP: Final = 2.0  # seconds by which the server's clock may move against ours before no lease is believed
GRACE: Final = 1.0  # seconds the master has to tell of a death that a sweep has seen


@dataclass(slots=True)
class Clock:
    """The server's clock as seen from here, and since when its leases can be believed. Times: monotonic seconds,
    server ms."""

    trusted_since: float
    offset_ms: float | None = None

    def saw(self, server_ms: int, now: float) -> None:
        """An answer carried the server's time."""
        offset = server_ms - now * 1000
        if self.offset_ms is not None and abs(offset - self.offset_ms) > STEP * 1000:
            self.trusted_since = now
        self.offset_ms = offset

    def server_ms(self, now: float) -> float:
        return now * 1000 + (self.offset_ms or 0.0)


@dataclass(slots=True)
class Stewardship:
    """`queues`: all that are looked after, each with its settings. `host`, `nonce`: whose workers are ours. `row_of`:
    a worker's row, if it has one. `on_recovered(queue, cause, n)`, `on_late(seconds)`: for the metrics. `set_aside`:
    given where each queue may be on a server of its own (a Cluster): told of one that cannot be looked after now, and
    why; the others go on."""

    port: StewardPort
    queues: dict[str, QueueSettings]
    host: str
    nonce: str
    policies: Mapping[str, TypePolicy]
    clock: Clock
    on_recovered: Callable[[str, str, int], None]
    on_late: Callable[[float], None]
    set_aside: Callable[[str, JobQueueError], None] | None = None
    due: dict[str, int] = field(default_factory=dict)
    living: dict[str, list[str]] = field(default_factory=dict)
    _empty: dict[int, tuple[int, int]] = field(default_factory=dict)
    _handed_back: dict[int, tuple[int, int]] = field(default_factory=dict)
    _suspects: dict[str, float] = field(default_factory=dict)
    _clocks: dict[str, Clock] = field(default_factory=dict)

    @contextmanager
    def _care(self, queue: str) -> Iterator[None]:
        """Inside, trouble with this queue is nobody else's, where it has a server of its own."""
        try:
            yield
        except JobQueueError as error:
            if self.set_aside is None:
                raise
            self.drop(queue)
            self.set_aside(queue, error)

    def server_ms(self) -> int:
        """Now, by a server's clock."""
        clock = next(iter(self._clocks.values()), self.clock)
        return int(clock.server_ms(time.monotonic()))

    def drop(self, queue: str) -> None:
        """Do not look after this queue any more; nothing of what was known of it holds."""
        for known in (self.queues, self.due, self.living, self._clocks):
            known.pop(queue, None)

    def clock_of(self, queue: str) -> Clock:
        """Of the server this queue is on."""
        if self.set_aside is None:
            return self.clock
        return self._clocks.setdefault(queue, Clock(time.monotonic()))

    def recover(self, told: Told) -> int:
        """Put back what a dead worker held, its own queue first. Returns how many jobs that were."""
        first = told.row["queue"] if told.row else ""
        total = 0
        for queue in sorted(self.queues, key=lambda q: q != first):
            with self._care(queue):
                total += self._recover_in(queue, told)
        self._suspects.pop(told.worker, None)
        return total

    def _recover_in(self, queue: str, told: Told) -> int:
        total = 0
        while True:
            applied, elements = self.port.fence(told.worker, queue)
            now_ms = int(self.clock_of(queue).server_ms(time.monotonic()))
            done = settlements(
                told,
                queue,
                applied,
                elements,
                settings=self.queues[queue],
                policies=self.policies,
                now_ms=now_ms,
                random=random.random,
            )
            left = self.port.recover(told.worker, queue, done, "recovered")
            if done:
                self.on_recovered(queue, told.cause, len(done))
            total += len(done)
            if left == 0:
                return total

    def promote(self, queue: str, now: float) -> None:
        """Move what is due, and remember what is due next."""
        expected = self.due.get(queue, 0)
        while True:
            moved, self.due[queue], server_ms = self.port.promote(queue)
            self.clock_of(queue).saw(server_ms, now)
            if moved and expected:
                self.on_late(max(0.0, (server_ms - expected) / 1000))
            expected = 0
            if not (self.due[queue] and self.due[queue] <= server_ms):
                return

    def promote_now(self, queue: str, now: float) -> None:
        """On the word of the alarm."""
        if queue in self.queues:
            with self._care(queue):
                self.promote(queue, now)

    def promote_due(self, now: float) -> None:
        """All queues whose next due time has come."""
        for queue, due in list(self.due.items()):
            if due and due <= self.clock_of(queue).server_ms(now):
                with self._care(queue):
                    self.promote(queue, now)

    def next_due(self, now: float) -> float:
        """Seconds until the next job is due; inf if none is."""
        waits = [(due - self.clock_of(queue).server_ms(now)) / 1000 for queue, due in self.due.items() if due]
        return max(0.0, min(waits)) if waits else float("inf")

    def expire_dead(self) -> None:
        """Dead letters leave after their queue's `dead_ttl`."""
        for queue, settings in list(self.queues.items()):
            ttl = settings.dead_ttl
            with self._care(queue):
                while ttl is not None and self.port.expire_dead(queue, int(ttl * 1000)) >= 1000:
                    pass

    def beat(self) -> None:
        """Renew the leases of all workers of this host that a sweep has seen alive."""
        for queue, workers in list(self.living.items()):
            if workers:
                with self._care(queue):
                    self.port.beat(queue, workers, int(LEASE * 1000))

    def return_next(self) -> None:
        """Jobs whose woken worker died go back."""
        for queue in list(self.queues):
            with self._care(queue):
                self.port.return_next(queue)

    def sweep(self, now: float, row_of: Callable[[str], Row | None], *, master_gone: bool) -> list[Told]:
        """Whose lists have no owner any more? Also: promote whatever is due, return what lingers in `next`, see who
        is alive."""
        orphans: dict[str, Told] = {}
        for queue in list(self.queues):
            with self._care(queue):
                leases, server_ms = self.port.leases(queue)
                clock = self.clock_of(queue)
                clock.saw(server_ms, now)
                self.living[queue] = []
                for worker, end in leases.items():
                    ended = end < server_ms and now - clock.trusted_since >= LEASE
                    verdict = self._verdict(worker, ended, now, row_of, master_gone)
                    if verdict is None:
                        self.living[queue].append(worker)
                    elif isinstance(verdict, Told):
                        orphans[worker] = verdict
                self.port.return_next(queue)
                self.promote(queue, now)
        return list(orphans.values())

    def _verdict(
        self, worker: str, ended: bool, now: float, row_of: Callable[[str], Row | None], master_gone: bool
    ) -> Told | Literal[False] | None:
        """None: alive, ours to beat for. False: not ours, or not yet to be judged. Told: an orphan."""
        try:
            name = identity.parse(worker)
        except identity.BadWorkerName:
            name = None
        if name is None or name.host != self.host:
            return Told(0, worker, "lost", "its lease has ended", None, now) if ended else False
        if identity.alive(name):
            return None
        if name.nonce != self.nonce:
            return Told(0, worker, "lost", "its jqd is gone", None, now)
        if not master_gone and now - self._suspects.setdefault(worker, now) < GRACE:
            return False  # the master has the cause
        row = row_of(worker)
        return Told(0, worker, "crashed", "its process is gone", _as_dict(row), now)

    def hand_back(self, board: Scoreboard, slots: Iterable[int], now_ns: int) -> bool:
        """Free what is held behind jobs that run too long; True while anything is held at all (look again soon)."""
        held = False
        for slot in slots:
            stamp = board.stamp(slot)
            if stamp == self._empty.get(slot):
                continue  # nothing was written since it was seen to hold nothing
            glance = board.glance(slot)
            if not glance.birth or not glance.held:
                self._empty[slot] = stamp
                continue
            held = True
            seen = (glance.birth, glance.trip)
            if not glance.start_ns or now_ns - glance.start_ns < LONG * 1e9 or self._handed_back.get(slot) == seen:
                continue
            row = board.read(slot)
            if (row.birth, row.trip, row.number) != (glance.birth, glance.trip, glance.number):
                continue
            self._handed_back[slot] = seen
            with self._care(row.queue):
                self.port.hand_back(row.worker_id, row.queue, row.trip, row.started)
        return held


def _as_dict(row: Row | None) -> dict[str, Any] | None:
    return (
        None
        if row is None
        else {"queue": row.queue, "trip": row.trip, "started": row.started, "start_ns": row.start_ns}
    )
