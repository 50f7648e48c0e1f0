"""What one queue is, in plain dicts: the same lists, sets and tables that lie in Redis, by the same names.

No rules beyond those of the tables themselves; `jobqueue.memory` is the only caller.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TypeAlias

List: TypeAlias = deque[bytes]


@dataclass(slots=True)
class QueueState:
    """All keys of one queue, named as in Redis. `scheduled` and `dead`: element → time, ms. `bars` and `was` are fields
    of `workers`
    there: trips up to the bar are refused; `was` is the last applied trip of a worker that is fenced but not emptied."""

    pending: List = field(default_factory=deque)
    next: List = field(default_factory=deque)
    processing: dict[str, List] = field(default_factory=dict)
    scheduled: dict[bytes, int] = field(default_factory=dict)
    dead: dict[bytes, int] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    bars: dict[str, int] = field(default_factory=dict)
    was: dict[str, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    alarm: bool = False
    unique: dict[str, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    ticks: dict[str, tuple[int, str]] = field(default_factory=dict)
    paused: str | None = None
    cancelled: set[str] = field(default_factory=set)
    stats: Counter[str] = field(default_factory=Counter)

    def held(self, worker: str) -> List:
        """The worker's processing list, newest first; kept only while it holds something (see `tidy`)."""
        return self.processing.get(worker) or deque()

    def keep(self, worker: str, held: List) -> None:
        """What the worker holds from now on; as in Redis an empty list is no list."""
        if held:
            self.processing[worker] = held
        else:
            self.processing.pop(worker, None)

    def free(self, unique: str, job_id: str) -> None:
        """Free a unique key, if it is this job's."""
        if unique and self.unique.get(unique) == job_id:
            del self.unique[unique]

    def schedule(self, element: bytes, due: int) -> None:
        """Put off until `due`; a new earliest due time rings the alarm."""
        self.scheduled[element] = due
        if min(self.scheduled.items(), key=by_time)[0] == element:
            self.alarm = True

    def bury(self, element: bytes, now: int) -> None:
        self.dead[element] = now
        self.stats["dead"] += 1

    def trim(self, dead_max: int) -> None:
        """Only the youngest `dead_max` dead letters stay."""
        if len(self.dead) > dead_max:
            for element, _ in sorted(self.dead.items(), key=by_time)[: len(self.dead) - dead_max]:
                del self.dead[element]

    def return_next(self) -> int:
        count = len(self.next)
        while self.next:
            self.pending.append(self.next.popleft())
        return count


def by_time(item: tuple[bytes, int]) -> tuple[int, bytes]:
    """As a sorted set orders its members."""
    return item[1], item[0]
