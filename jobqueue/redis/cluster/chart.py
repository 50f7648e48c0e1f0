"""What one process remembers of a Cluster, beyond the life of its connections: the map of slots, and which nodes did not answer.

It opens nothing (`jobqueue.redis.cluster.wire` does, the only caller). A node that could not be connected to is left alone for a moment,
longer each time: a worker that serves other shards too must not spend its time on one that is down.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from jobqueue.errors import Unavailable
from jobqueue.redis.cluster.slots import Place, SlotMap
from jobqueue.redis.connect import Endpoint

FIRST: Final = 0.05  # seconds a node is left alone after its first failure
LONGEST: Final = 2.0
SHORT: Final = 0.5  # seconds one attempt may take with a node that has failed before
RELOAD: Final = 0.2  # seconds between two loadings of the map that nobody asked for by a redirect


@dataclass(slots=True)
class Failure:
    """A node that does not let us in: how often in a row, until when it is left alone, and why."""

    times: int
    until: float
    where: str
    cause: str  # not the exception, which would keep alive all that was on the stack


class Chart:
    """`seeds`: the hosts of `redis.url`. `greeting`: how to greet every node; its host and port do not matter."""

    def __init__(self, seeds: Sequence[tuple[str, int]], greeting: Endpoint) -> None:
        self.seeds = [Place(*seed) for seed in seeds]
        self.greeting = greeting
        self.map = SlotMap()
        self._failures: dict[Place, Failure] = {}
        self._loaded_at = 0.0
        self.reopened = 0
        """Grows when a lost connection is replaced: what was waited for on the old one is unknown on the new one."""

    @property
    def candidates(self) -> list[Place]:
        """Whom to ask for the map: known masters first, in any order, then the seeds."""
        known = self.map.places
        random.shuffle(known)
        seeds = [seed for seed in self.seeds if seed not in known]
        random.shuffle(seeds)
        return known + seeds

    def loaded(self, found: SlotMap) -> None:
        self.map, self._loaded_at = found, time.monotonic()

    @property
    def stale(self) -> bool:
        """Whether the map may be asked for again."""
        return time.monotonic() - self._loaded_at > RELOAD

    def endpoint(self, place: Place) -> Endpoint:
        """How to connect to a node. Raises Unavailable (nothing is sent) while it is left alone."""
        failure, limit = self._failures.get(place), self.greeting.connect_timeout
        if failure is not None:
            if time.monotonic() < failure.until:
                raise Unavailable(failure.where, failure.cause, sent=False)
            limit = min(limit, SHORT)
        return replace(self.greeting, host=place.host, port=place.port, connect_timeout=limit)

    def failed(self, place: Place, cause: Unavailable) -> None:
        """It could not be connected to."""
        before = self._failures.get(place)
        times = before.times + 1 if before else 1
        pause = min(LONGEST, FIRST * 2 ** min(times - 1, 10)) * (0.5 + random.random() / 2)
        self._failures[place] = Failure(times, time.monotonic() + pause, cause.where, str(cause.cause))

    def answered(self, place: Place) -> None:
        """It let us in."""
        self._failures.pop(place, None)
