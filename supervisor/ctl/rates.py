"""Two looks at the queues make rates: what `jqctl top` shows of them. Pure.

Not the screen (`supervisor.ctl.screen`) and not the looking (`supervisor.ctl.top`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT = 60


@dataclass(slots=True)
class Pace:
    """One queue over time: `depths`, oldest first; runs that ended well and that failed, a second (None: not known yet)."""

    depths: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    done: float | None = None
    failed: float | None = None
    _last: tuple[float, int, int] | None = None

    def look(self, at: float, queue: Mapping[str, Any]) -> None:
        """`queue` as in `/stats`; `at`: monotonic seconds."""
        totals = queue["totals"]
        done, failed = totals.get("processed", 0), totals.get("retried", 0) + totals.get("dead", 0)
        if self._last is not None and at > self._last[0]:
            seconds = at - self._last[0]
            self.done = max(0.0, (done - self._last[1]) / seconds)
            self.failed = max(0.0, (failed - self._last[2]) / seconds)
        self._last = (at, done, failed)
        self.depths.append(queue["pending"])


def look(paces: dict[str, Pace], at: float, queues: Mapping[str, Mapping[str, Any]]) -> None:
    """Take one look at all queues; those that are gone are forgotten."""
    for gone in paces.keys() - queues.keys():
        del paces[gone]
    for name, queue in queues.items():
        paces.setdefault(name, Pace()).look(at, queue)


BARS = "▁▂▃▄▅▆▇█"


def spark(values: deque[int], width: int) -> str:
    """The last `width` values as small bars; the largest is the highest."""
    shown = list(values)[-width:]
    top = max(shown, default=0)
    return "".join(BARS[min(7, value * 8 // (top + 1))] if value else " " for value in shown).rjust(width)
