"""The master's word to the outside: title, systemd, exporter, and the dump of USR2. On change, and once a second.

Not what is said, that is `supervisor.status`. Called by the master at the end of every turn.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from supervisor import fleet, status
from supervisor.desired import Desired, Stop
from supervisor.generation import Generations
from supervisor.notify import Notifier
from supervisor.rolekeeping import Keeper
from supervisor.slot import State
from supervisor.workers import Workers

EVERY: Final = 1.0
GAP: Final = 0.1  # seconds between two reports however much changes


@dataclass(slots=True)
class Report:
    """What was said last, and when to speak again."""

    notifier: Notifier
    log: Any
    config_path: str
    workers: Workers
    keeper: Keeper
    generations: Generations
    started: float
    changed: bool = True
    announced: bool = False  # the first workers are ready, and everybody knows
    next_ping: float = 0.0
    _next: float = 0.0
    _last: float = 0.0
    _line: str = ""
    _ready: str = ""

    def wake_at(self) -> float:
        return self._next if self.notifier.watchdog_interval is None else min(self._next, self.next_ping)

    def make(self, desired: Desired, now: float, *, reloading: bool, problem: str = "") -> None:
        """Ping the watchdog if that is due, and say what is new."""
        if self.notifier.watchdog_interval is not None and now >= self.next_ping:
            self.notifier.watchdog()
            self.next_ping = now + self.notifier.watchdog_interval
        first = self._is_first_ready(desired)
        if now < self._next and not (self.changed and now >= self._last + GAP) and not first:
            if self.changed:
                self._next = min(self._next, self._last + GAP)
            return
        self.changed, self._last, self._next = False, now, now + EVERY
        self._tell_exporter(desired, now)
        line = self.line(desired, reloading=reloading, problem=problem)
        if first:
            self.announced = True
            self.notifier.ready(line)
            self.log.info("ready", workers=status.size(desired), seconds=round(now - self.started, 3))
        elif line != self._line:
            self.notifier.status(line)
        self._line = line
        self._set_title(f"ready {fleet.ready(self.workers.slots.values())}/{status.size(desired)}")

    def line(self, desired: Desired, *, reloading: bool, problem: str = "") -> str:
        slots, joined = self.workers.slots.values(), self.workers.joined()
        return status.line(slots, desired, joined, reloading=reloading, problem=problem)

    def _is_first_ready(self, desired: Desired) -> bool:
        if self.announced or desired.stop is not Stop.RUN:
            return False
        return fleet.ready(self.workers.slots.values()) >= status.size(desired)

    def _tell_exporter(self, desired: Desired, now: float) -> None:
        for role in self.keeper.named("exporter"):
            if role.spoken and role.channel is not None and not role.channel.wants_write:
                role.send(
                    status.message(
                        self.workers.slots.values(),
                        desired,
                        self.keeper.roles,
                        self.workers.restarts,
                        self.generations.results,
                        now,
                        self.generations.ended,
                    )
                )

    def _set_title(self, ready: str) -> None:
        if ready != self._ready:
            self._ready = ready
            status.set_title(f"jqd: master [{self.config_path}] {ready}")

    def dump(self, line: str) -> None:
        """Everything the master knows, to the log."""
        self.log.info("state", role="master", status=line, pid=os.getpid())
        for slot in self.workers.slots.values():
            if slot.state is not State.EMPTY:
                row = self.workers.board.read(slot.number)
                job = {"job": row.job_id, "type": row.type} if row.birth == slot.birth and row.running else {}
                self.log.info("state", role="worker", **status.slot_state(slot), **job)
        for role in self.keeper.roles:
            fields = status.role_state(role)
            self.log.info("state", role=fields.pop("name"), **fields)
