"""A flood of identical lines becomes a few and a number. Pure: time is an argument.

Identical means every field, the job included: a line that each job writes once is no flood. Used by `supervisor.logs`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

FREE: Final = 20
"""Identical lines that are written in one window."""
WINDOW: Final = 5.0
"""Seconds."""
MOST: Final = 512
"""Different lines that are watched at once; beyond that none is held back."""


class Held(NamedTuple):
    """A line that was held back `times`."""

    level: str
    role: str
    event: str
    times: int


@dataclass(slots=True)
class _Seen:
    since: float
    level: str
    role: str
    event: str
    times: int = 0


@dataclass(slots=True)
class Flood:
    """What was written lately. One a process."""

    _seen: dict[Hashable, _Seen] = field(default_factory=dict)
    _next: float = 0.0

    def passes(self, now: float, level: str, role: str, event: str, key: Hashable) -> bool:
        """Whether this line is to be written."""
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= MOST:
                return True
            seen = self._seen[key] = _Seen(now, level, role, event)
            self._next = self._next or now + WINDOW
        seen.times += 1
        return seen.times <= FREE

    def over(self, now: float) -> list[Held]:
        """Windows that have ended: what was held back in them. Cheap while none has. A clock set back ends all."""
        if self._next and self._next - WINDOW <= now < self._next:
            return []
        ended = {key: seen for key, seen in self._seen.items() if not seen.since <= now < seen.since + WINDOW}
        for key in ended:
            del self._seen[key]
        self._next = min((seen.since for seen in self._seen.values()), default=-WINDOW) + WINDOW
        return [Held(s.level, s.role, s.event, s.times - FREE) for s in ended.values() if s.times > FREE]
