"""The last quarter of an hour of each queue, as the dashboard's plots show it. Pure: samples come in, lists of numbers go out.

Not metrics: Prometheus keeps those for longer. A sample that is missing (Redis did not answer) is a gap and not a zero.
Used by `supervisor.exporter.live`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

EVERY = 5.0
"""Seconds between two samples."""
KEPT = 180
MOST_QUEUES = 200
"""Queues with a history; more are shown without plots."""

Point: TypeAlias = tuple[int | None, float | None, float | None, float | None]
"""Depth, latency (s), runs that ended well a second, runs that failed a second. None: not known."""
GAP: Point = (None, None, None, None)


@dataclass(slots=True)
class History:
    """Points of all queues at the same times."""

    at_ms: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    points: dict[str, deque[Point]] = field(default_factory=dict)
    _totals: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    def add(self, at: float, stats: Mapping[str, Any] | None) -> dict[str, Point]:
        """One sample at `at` (seconds since 1970): `/stats`, or None if there is no answer. Returns the new points."""
        queues: Mapping[str, Any] = {} if stats is None else stats["queues"]
        new = {name: self._point(name, at, queue) for name, queue in list(queues.items())[:MOST_QUEUES]}
        before = len(self.at_ms)
        self.at_ms.append(int(at * 1000))
        for name in new.keys() - self.points.keys():
            self.points[name] = deque([GAP] * before, maxlen=KEPT)
        for name, points in list(self.points.items()):
            points.append(new.get(name, GAP))
            if stats is not None and name not in new and all(point == GAP for point in points):
                del self.points[name]
        return new

    def _point(self, name: str, at: float, queue: Mapping[str, Any]) -> Point:
        totals = queue.get("totals", {})
        done, failed = totals.get("processed", 0), totals.get("retried", 0) + totals.get("dead", 0)
        last, self._totals[name] = self._totals.get(name), (at, done, failed)
        latency = queue.get("latency_seconds") if queue["pending"] else 0.0
        if last is None or at - last[0] > 4 * EVERY or at <= last[0] or done < last[1] or failed < last[2]:
            return queue["pending"], latency, None, None
        seconds = at - last[0]
        rates = round((done - last[1]) / seconds, 2), round((failed - last[2]) / seconds, 2)
        return queue["pending"], latency, *rates

    def plain(self) -> dict[str, Any]:
        """Everything, for a page that was just opened."""
        return {
            "every": EVERY,
            "kept": KEPT,
            "at": list(self.at_ms),
            "queues": {name: list(points) for name, points in self.points.items()},
        }
