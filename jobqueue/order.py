"""In which order a trip looks at a worker's queues, and how many of them it names.

Naming a queue costs the server time, so with many queues a trip names the first few; it names more when these were empty, and all of them
before the worker waits. Where few were enough the last time, few are named the next time; where many were seen empty a moment ago, none of
them while claims of many jobs go on. Pure but for the drawing of weighted orders.
Called by `jobqueue.worker`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

FEW: Final = 4


class Order:
    """`queues` in claiming order; with `weights` (one for each) the order is drawn anew for each trip. `budget`: seconds of work a claim
    may hold; as long do more than a few empty queues count as empty for claims of many jobs."""

    def __init__(
        self, queues: Sequence[str], weights: Sequence[int] | None, rng: random.Random, budget: float = 0.0
    ) -> None:
        self._queues, self._weights, self._rng = tuple(queues), weights, rng
        self._budget_ns = int(budget * 1e9)
        self._reach = min(FEW, len(self._queues))
        self._look_at = 0
        self._simple = weights is None and len(self._queues) <= FEW  # nothing to decide

    def claiming(self, home: str, want: int, now: int) -> tuple[str, ...]:
        """The queues of a trip that is to claim up to `want` jobs; `home`, which every trip names, is in its place among them.
        `now`: ns."""
        if self._simple:
            return self._queues
        if self._weights is not None:
            return self._drawn(self._weights)[: self._reach]
        reach = self._reach
        if reach < len(self._queues):
            reach = max(reach, self._queues.index(home) + 1)
        if reach > FEW:
            if want > 1 and now < self._look_at:
                return (home,)
            self._look_at = now + self._budget_ns
        return self._queues[:reach]

    def woken(self, queues: Sequence[str]) -> tuple[str, ...]:
        """For the trip that fetches what ended a wait: all down to the last of `queues`, which a job came for."""
        order = self.all()
        return order[: 1 + max(order.index(queue) for queue in queues)]

    def all(self) -> tuple[str, ...]:
        """Every queue: for the trips that look after `next` or end the work."""
        return self._queues if self._weights is None else self._drawn(self._weights)

    def found(self, named: Sequence[str], queue: str | None) -> bool:
        """A claiming trip named these and got jobs of `queue`, or none. False: look further before waiting."""
        if queue is not None:
            if not self._simple and queue in named and len(named) >= self._reach:
                self._reach = min(len(self._queues), max(FEW, named.index(queue) + 1))
            return True
        self._look_at = 0
        complete = len(named) >= len(self._queues)
        self._reach = min(FEW if complete else 4 * max(len(named), self._reach), len(self._queues))
        return complete

    def _drawn(self, weights: Sequence[int]) -> tuple[str, ...]:
        """A queue comes first as often as its weight says (Efraimidis and Spirakis, 2006)."""
        draw = self._rng.random
        keyed = [(-(draw() ** (1 / w)) if w else 0.0, q) for q, w in zip(self._queues, weights, strict=True)]
        return tuple(q for _, q in sorted(keyed))
