"""The steward's duty towards cron entries: each tick is pushed, once, within a few ms of its time. One connection's life
long, without a loop of its own.

Not when an entry ticks (`jobqueue.cron`) and not why a tick is pushed once (`lua/tick.lua`): the stewards of all hosts try,
and after any error the steward's process (`supervisor.roles.steward`, the only caller) makes a new one of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from jobqueue.cron import Due, Schedule, due
from jobqueue.cronjob import job_of, queue_of, schedule_of
from jobqueue.errors import JobQueueError, ServerRefused, Unavailable, UnsafeServer
from jobqueue.handlers import TypePolicy
from jobqueue.port import AHEAD_MS, CronPort, Ticked
from jobqueue.settings import CronEntry, QueueSettings
from supervisor.stewardship import Clock

AGAIN_MS: Final = 1000  # after a tick was refused for want of room
REMIND: Final = 3600.0  # seconds between two assurances that an entry is still known: else its last tick is forgotten
NO_ROOM: Final = frozenset({"OOM", "WRONGTYPE"})
OWN: Final = frozenset({"WRONGTYPE", "NOPERM", "ERR"})  # what a server says of one entry's keys, not of itself


@dataclass(slots=True)
class Watched:
    """One entry. `last`: its last tick; None: to be asked for. `look_at`: when there may be something to do, server ms."""

    name: str
    entry: CronEntry
    queue: str
    schedule: Schedule
    last: int | None = None
    asked: float = 0.0
    look_at: float = 0.0
    refused: bool = False
    warned: bool = False
    aside_until: float = 0.0  # monotonic seconds


@dataclass(slots=True)
class Crontab:
    """All entries of this host. `policies`: the types that are registered here. `on_late(seconds)`: for the metric."""

    port: CronPort
    entries: Mapping[str, CronEntry]
    queues: Mapping[str, QueueSettings]
    policies: Mapping[str, TypePolicy]
    clock: Clock
    on_late: Callable[[float], None]
    log: Any
    monotonic: Callable[[], float] = time.monotonic
    apart: bool = False
    """Each queue may be on a server of its own (a Cluster): one that does not answer keeps only its own entries waiting."""
    _watched: list[Watched] = field(init=False)

    def __post_init__(self) -> None:
        self._watched = [Watched(n, e, queue_of(e, self.queues), schedule_of(e)) for n, e in self.entries.items()]

    def next_due(self, now: float) -> float:
        """Seconds until there may be something to do; inf if there are no entries. `now`: monotonic seconds."""
        server_ms = self.clock.server_ms(now)
        waits = (max((one.look_at - server_ms) / 1000, one.aside_until - now) for one in self._watched)
        return max(0.0, min(waits, default=inf))

    def tick_due(self, now: float) -> None:
        """Whatever has come due. Raises Unavailable, ServerRefused."""
        for one in self._watched:
            if now < one.aside_until:
                continue
            try:
                self._attend(one, now)
            except (Unavailable, ServerRefused, UnsafeServer) as error:
                if not self._own_trouble(one, error):
                    raise
                one.last, one.aside_until = None, now + AGAIN_MS / 1000
                one.look_at = self.clock.server_ms(now) + AGAIN_MS

    def _own_trouble(self, one: Watched, error: JobQueueError) -> bool:
        """Whether this entry alone is to wait: its shard is away, or its key is not what it should be. All else is everybody's trouble."""
        if isinstance(error, ServerRefused) and error.code in OWN:
            if not one.refused:
                one.refused = True
                self.log.warning("cron entry cannot tick", entry=one.name, queue=one.queue, cause=str(error))
            return True
        return self.apart

    def _attend(self, one: Watched, now: float) -> None:
        server_ms = self.clock.server_ms(now)
        set_back = one.last is not None and one.last > server_ms + AHEAD_MS
        if one.last is None or set_back or now - one.asked > REMIND:
            self._ask(one)
        if server_ms >= one.look_at:
            self._look(one)

    def _ask(self, one: Watched) -> None:
        one.last, server_ms = self.port.last_tick(one.queue, one.name, str(one.schedule))
        one.asked = self.monotonic()
        one.look_at = 0.0
        self.clock.saw(server_ms, one.asked)

    def _look(self, one: Watched) -> None:
        assert one.last is not None
        now_ms = int(self.clock.server_ms(self.monotonic()))
        found = due(one.schedule, one.last, now_ms, one.entry.catch_up)
        if found.tick is None:
            one.look_at = _or_never(found)
            return
        try:
            answer = self._push(one, found.tick, now_ms)
        except ServerRefused as refused:
            if refused.code not in NO_ROOM:
                raise
            self._no_room(one, str(refused), now_ms)
            return
        self._answered(one, found, answer)

    def _push(self, one: Watched, tick_ms: int, now_ms: int) -> Ticked:
        job = job_of(one.name, one.entry, self.queues, tick_ms, now_ms)
        answer = self.port.tick(one.name, str(one.schedule), tick_ms, job)
        self.clock.saw(answer.now_ms, self.monotonic())
        return answer

    def _answered(self, one: Watched, found: Due, answer: Ticked) -> None:
        assert found.tick is not None
        match answer.what:
            case "full":
                self._no_room(one, f"queue {one.queue!r} is full", answer.now_ms)
                return
            case "early":
                one.look_at = found.tick  # our idea of the server's clock was ahead; now it is better
                return
            case "pushed":
                late = (answer.now_ms - found.tick) / 1000
                self.on_late(late)
                self.log.debug("tick", entry=one.name, queue=one.queue, late=late)
                self._warn_of_type(one)
            case "taken" | "held":
                pass
        one.last, one.look_at = answer.last, _or_never(found)
        if one.refused:
            one.refused = False
            self.log.info("cron entry ticks again", entry=one.name)

    def _no_room(self, one: Watched, why: str, now_ms: int) -> None:
        """Later, then: once it is in, it stands for all that were missed meanwhile."""
        one.look_at = now_ms + AGAIN_MS
        if not one.refused:
            one.refused = True
            self.log.warning("cron entry cannot tick, trying again", entry=one.name, queue=one.queue, cause=why)

    def _warn_of_type(self, one: Watched) -> None:
        if self.policies and one.entry.type not in self.policies and not one.warned:
            one.warned = True
            self.log.warning("no handler here for a cron entry", entry=one.name, type=one.entry.type)


def _or_never(found: Due) -> float:
    return inf if found.look_at is None else found.look_at
