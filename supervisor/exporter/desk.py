"""Where the dashboard's questions about single jobs and its actions are worked off: one thread with connections of its own.

Not the probe's thread: a search through 20,000 dead letters must not delay a scrape. Not permission either (`api`, the
only caller). Few may wait; who comes then is told to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from msgspec import structs

from jobqueue.errors import JobQueueError
from supervisor.exporter.probe import inspector
from supervisor.settings import Settings

if TYPE_CHECKING:
    from jobqueue.redis.operate import Operator

T = TypeVar("T")
QUEUE = 8


class Busy(JobQueueError):
    """Too many wait already."""

    def __init__(self) -> None:
        super().__init__("the exporter is busy with other questions about jobs: try again")


class Desk:
    """Asks and changes one Redis, one piece of work at a time."""

    def __init__(self, settings: Settings) -> None:
        timeouts = {"socket_timeout": 4.0, "connect_timeout": 1.0}
        self._settings = structs.replace(settings, redis=structs.replace(settings.redis, **timeouts))
        self._thread = ThreadPoolExecutor(1, "desk")
        self._operator: Operator | None = None
        self._waiting = 0

    async def do(self, work: Callable[[Operator], T]) -> T:
        """`work` in the thread. Raises Busy, and whatever it raises."""
        if self._waiting >= QUEUE:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._tools()))
        finally:
            self._waiting -= 1

    def _tools(self) -> Operator:
        if self._operator is None:
            from jobqueue.redis.browse import Browser
            from jobqueue.redis.operate import Operator

            self._operator = Operator(Browser(inspector(self._settings)))
        return self._operator
