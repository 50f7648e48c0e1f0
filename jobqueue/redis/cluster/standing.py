"""What a worker knows of each of its queues in a Cluster, beyond the life of its connections: the state behind `queue.ClusterQueue`.

No I/O, no clock. Each queue has a chain of trips of its own, because each is on a server of its own: what one server has lost in a failover
says nothing about the others.

A queue is in one of these states:
    absent    never joined: its shard has not answered since this worker was born
    admitted  joined, and the last trip it has applied is known: trips may name it
    away      joined, but a command's outcome there is unknown, or its shard does not answer: no trip names it until it is admitted again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from jobqueue.port import Settlement

FIRST: Final = 0.05  # seconds until a queue that is away is asked again
LONGEST: Final = 1.0


@dataclass(slots=True)
class Away:
    """When it is asked again, and after which pause (monotonic seconds)."""

    again: float
    pause: float


@dataclass(slots=True)
class Debt:
    """Finished jobs of a queue that is away: the oldest of its list, unless the trip `unanswered` has settled them. `applied`: the last
    trip there that was known when they were left behind."""

    done: Sequence[Settlement]
    unanswered: int
    applied: int

    def open(self, applied: int) -> bool:
        """Whether they are still to be settled, where `applied` is the last trip: not if it has been, not if that server lost writes (then
        nobody knows what its list holds, and what is in it runs again)."""
        return applied >= self.applied and not (self.unanswered and applied >= self.unanswered)


@dataclass(slots=True)
class Standing:
    """`joined`: queues that know this worker. `chain`: of the admitted ones, the last applied trip. `full`: those whose list may hold
    something. `away`: the others. `debts`: what is to be settled when they are back. `bar`: of the last reconcile, which has every trip up
    to it refused."""

    joined: set[str] = field(default_factory=set)
    chain: dict[str, int] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    away: dict[str, Away] = field(default_factory=dict)
    debts: dict[str, Debt] = field(default_factory=dict)
    bar: int = 0

    def owe(self, queue: str, done: Sequence[Settlement], unanswered: int, applied: int) -> None:
        """See Reconciled."""
        self.debts[queue] = Debt(done, unanswered, applied)

    def admit(self, queue: str, applied: int, held: int) -> None:
        """It answered: trips may name it again."""
        if queue in self.debts and not self.debts[queue].open(applied):
            del self.debts[queue]
        self.joined.add(queue)
        self.chain[queue] = applied
        self.away.pop(queue, None)
        self.full.discard(queue)
        if held:
            self.full.add(queue)

    def lose(self, queue: str, now: float) -> None:
        """It did not answer, or not as it should: no trip names it until it is admitted again."""
        self.chain.pop(queue, None)
        self.full.discard(queue)
        before = self.away.get(queue)
        if before is None:
            self.away[queue] = Away(now + FIRST, FIRST)
        else:
            before.pause = min(LONGEST, before.pause * 2)
            before.again = now + before.pause

    def claimable(self, queues: Sequence[str], trip: int) -> list[str]:
        """Those that this trip may still name."""
        chain = self.chain
        return [queue for queue in queues if queue in chain and chain[queue] < trip]

    def due(self, now: float) -> list[str]:
        """Those that are to be asked whether they are back."""
        return [queue for queue, away in self.away.items() if away.again <= now]

    def next_due(self) -> float | None:
        """When the next one is (monotonic seconds)."""
        return min((away.again for away in self.away.values()), default=None)
