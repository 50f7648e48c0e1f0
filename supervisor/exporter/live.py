"""The dashboard's live picture: a sample of the queues every 5 s, and once a second, while anybody watches, one event for all who do.

Not the connection of one watcher (`supervisor.exporter.stream`) and not what the picture says (`overview`, `history`).
Used by `supervisor.exporter.app`. However many watch, Redis is asked as often as for one.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import msgspec

from supervisor.exporter import overview
from supervisor.exporter.history import EVERY, History
from supervisor.exporter.probe import Answer, Probe
from supervisor.exporter.watch import Watch

TICK = 1.0
FIRST_SAMPLE = 5.0
"""Seconds after the start: until then the processors belong to those who run jobs."""


class Live:
    """One for all watchers. `origin`: host.nonce of this jqd."""

    def __init__(self, watch: Watch, probe: Probe, origin: str, about: dict[str, Any]) -> None:
        self._watch, self._probe, self._origin, self._about = watch, probe, origin, about
        self._history, self._new_points = History(), dict[str, Any]()
        self._known: Answer | None = None  # the last answer that had numbers
        self._turn = asyncio.Condition()
        self._event = b""
        self._number = 0
        self.watchers = 0

    async def run(self) -> None:
        """Sample and tell, for ever."""
        sampled = time.monotonic() + FIRST_SAMPLE - EVERY
        while True:
            began = time.monotonic()
            if began - sampled >= EVERY or self.watchers:
                answer = await self._probe.answer()
                if answer.stats is not None:
                    self._known = answer
                if began - sampled >= EVERY:
                    sampled = max(began - EVERY, sampled + EVERY)
                    points = self._history.add(time.time(), answer.stats)
                    self._new_points = {"at": self._history.at_ms[-1], "queues": points}
                if self.watchers:
                    await self._tell(_event("now", self._picture(answer)))
            await asyncio.sleep(max(0.05, began + TICK - time.monotonic()))

    async def _tell(self, event: bytes) -> None:
        async with self._turn:
            self._event, self._number = event, self._number + 1
            self._turn.notify_all()

    async def next(self, after: int) -> tuple[int, bytes]:
        """The first event later than number `after`: its number and its bytes. Events in between are skipped."""
        async with self._turn:
            await self._turn.wait_for(lambda: self._number > after)
            return self._number, self._event

    async def hello(self) -> tuple[int, bytes]:
        """What a new watcher is told first: all that was, and all that is."""
        answer = await self._probe.answer()
        if answer.stats is not None:
            self._known = answer
        first = {**self._about, "history": self._history.plain()}
        return self._number, _event("hello", first) + _event("now", self._picture(answer))

    def _picture(self, answer: Answer) -> dict[str, Any]:
        now, known, watch = time.monotonic(), self._known, self._watch
        stats = known.stats if known else None
        hosts = known.hosts if known else []
        names = {host["id"]: host["hostname"] for host in hosts}
        age = now - known.at if known else 0.0
        workers = overview.local_workers(watch.status, watch.rows(), time.monotonic_ns(), os.uname().nodename)
        workers += overview.remote_workers(stats, names, self._origin, age)
        return {
            "at": int(time.time() * 1000),
            "age": round(age, 1) if known else None,
            "error": answer.error,
            "redis": known.health if known else None,
            "queues": stats["queues"] if stats else {},
            "workers": workers[: overview.MOST_WORKERS],
            "workers_total": len(workers),
            "busy": watch.busy(),
            "hosts": overview.hosts(stats, hosts, self._origin),
            "jqd": overview.of_status(watch.status, now),
            "wrong": watch.not_live(),
            "point": self._new_points or None,
        }


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
