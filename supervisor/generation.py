"""Generations: settings and the code they were loaded with, numbered; and what a reload makes of them.

Not the roll itself, that is the plan's: here only the next generation is prepared, until its roles have proved good.
Called by the master.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from supervisor.desired import Desired, Limits, PoolSize
from supervisor.rows import ROWS, surge
from supervisor.settings import Pool, Settings, encode, masked, same_server

READY_TIMEOUT = 60.0  # seconds a new forkserver has to import the handlers
PARKED = 4.0  # seconds a parked call may take until its connection counts as lost


class ReloadRefused(Exception):
    """A change that needs a restart."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: a reload cannot do that, restart jqd")


@dataclass(slots=True)
class Generation:
    """One generation. `registry` is the descriptor its forkserver sent, passed on unread."""

    number: int
    settings: Settings
    data: bytes
    registry: int | None = None

    @classmethod
    def of(cls, number: int, settings: Settings) -> Generation:
        return cls(number, settings, encode(settings))

    def pools(self) -> tuple[PoolSize, ...]:
        return tuple(PoolSize(pool.name, pool.processes, self._limits(pool)) for pool in self.settings.pools)

    def _limits(self, pool: Pool) -> Limits:
        """A worker may be silent while it waits for an answer of Redis, and for a second while it is parked."""
        silence = pool.hang_timeout + self.settings.redis.socket_timeout + PARKED
        memory = inf if pool.max_memory_hard is None else pool.max_memory_hard
        return Limits(pool.start_timeout, silence, memory)

    def takes_registry(self, fd: int) -> None:
        self.close()
        self.registry = fd

    def close(self) -> None:
        if self.registry is not None:
            os.close(self.registry)
            self.registry = None


@dataclass(slots=True)
class Generations:
    """All that are still needed, and the candidate: the next one, until its forkserver has the handlers and Redis its steward."""

    known: dict[int, Generation]
    candidate: int | None = None
    lacks: set[str] = field(default_factory=set)  # which of the candidate's roles have not proved good
    exporter: int = 1  # whose settings the exporter has
    deadline: float = 0.0
    results: Counter[str] = field(default_factory=Counter)
    ended: Mapping[str, Any] | None = None  # the last reload: result, at (seconds since 1970), error
    _last: int = 1

    def __getitem__(self, number: int) -> Generation:
        return self.known[number]

    def prepare(self, settings: Settings, current: Settings, now: float) -> Generation:
        """A candidate; an older one that is not ready yet is forgotten. Raises ReloadRefused."""
        if not same_server(settings.redis, current.redis):
            raise ReloadRefused(f"redis.url or key_prefix now mean another place ({masked(settings.redis.url)})")
        self._last += 1
        generation = self.known[self._last] = Generation.of(self._last, settings)
        self.candidate, self.deadline = self._last, now + READY_TIMEOUT
        self.lacks = {"forkserver", "steward"}
        return generation

    def proved(self, role: str) -> bool:
        """This role of the candidate is good; True if that was the last."""
        self.lacks.discard(role)
        return not self.lacks

    def promote(self, desired: Desired) -> Desired:
        """The candidate is what is desired now; what was proven good stays to fall back to."""
        assert self.candidate is not None
        generation = self.known[self.candidate]
        self.candidate = None
        good = replace(desired.previous or desired, previous=None)
        return replace(desired, generation=generation.number, pools=generation.pools(), previous=good)

    def forget_all_but(self, numbers: set[int]) -> None:
        for number in self.known.keys() - numbers:
            self.known.pop(number).close()


def resized(desired: Desired, by: int) -> Desired:
    """The first pool larger or smaller by so many workers: never below one, and never without rows for a reload."""
    first, *rest = desired.pools
    others = sum(pool.processes + surge(pool.processes) for pool in rest)
    processes = max(1, first.processes + by)
    if by > 0 and processes + surge(processes) + others > ROWS:
        processes = first.processes
    previous = None if desired.previous is None else resized(desired.previous, by)
    return replace(desired, pools=(replace(first, processes=processes), *rest), previous=previous)


def exporter_part(settings: Settings) -> object:
    """What the exporter shows or uses: if this is the same after a reload, it need not be replaced."""
    return (settings.http, settings.redis, settings.queues, settings.pools, settings.log)
