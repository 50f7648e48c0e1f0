"""What Redis says, asked in a thread of its own: one question at a time, one answer a second, never a wait on the loop.

Not the question itself (`jobqueue.redis.inspect`), which is imported with its client in that thread, when first asked.
However many scrapers and browsers there are, Redis is asked once a second at most, and not at all when nobody asks.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from msgspec import structs

from jobqueue.errors import JobQueueError
from supervisor.settings import Settings

KEEP = 1.0
"""Seconds an answer is good for."""
HEALTH_KEEP = 4.0
"""Seconds for which INFO is not asked again."""
PATIENCE = 1.5
"""Seconds anybody waits for one; a Redis slower than this counts as down."""
IMPORTS = 10.0
"""Seconds the first answer may take longer: a client library is imported, perhaps while all workers start."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`stats` as `jobqueue.redis.inspect` gives them, or else why there are none. `at`: monotonic seconds. `health`: of the server,
    a few seconds old at most."""

    at: float
    stats: dict[str, Any] | None
    error: str | None
    hosts: list[dict[str, Any]] = field(default_factory=list)
    health: dict[str, Any] | None = None


class Probe:
    """Asks one Redis."""

    def __init__(self, settings: Settings) -> None:
        timeouts = {"socket_timeout": 1.0, "connect_timeout": 1.0}
        self._settings = structs.replace(settings, redis=structs.replace(settings.redis, **timeouts))
        self._thread = ThreadPoolExecutor(1, "redis")
        self._inspector: Any = None
        self._ask_health: Any = None
        self._asked = 0.0
        self._running: asyncio.Future[Answer] | None = None
        self._last: Answer | None = None
        self._health: tuple[float, dict[str, Any]] = -HEALTH_KEEP, {}

    async def answer(self) -> Answer:
        """The last answer if it is fresh, else a new one; an error after 1.5 s of waiting. Never raises."""
        now = time.monotonic()
        if self._last is not None and now - self._last.at < KEEP:
            return self._last
        if self._running is None:
            self._asked = now + (IMPORTS if self._inspector is None else 0.0)
            self._running = asyncio.get_running_loop().run_in_executor(self._thread, self._ask)
            self._running.add_done_callback(self._done)
        running = self._running
        while not running.done() and (left := self._asked + PATIENCE - time.monotonic()) > 0:
            await asyncio.wait([running], timeout=min(left, 0.1))  # in steps: the first question starts late
        if running.done():
            return running.result()
        return Answer(now, None, f"Redis has not answered for {time.monotonic() - self._asked:.1f} s")

    def _done(self, future: asyncio.Future[Answer]) -> None:
        self._running = None
        if not future.cancelled():
            self._last = future.result()

    def _ask(self) -> Answer:
        """In the thread. Every failure is an answer: a scrape goes on without Redis."""
        try:
            if self._inspector is None:
                from jobqueue.redis.health import health

                self._inspector, self._ask_health = inspector(self._settings), health
                self._asked = time.monotonic()  # the imports are over: only now Redis can be slow
            found = self._inspector.snapshot()
            at = time.monotonic()
            if at - self._health[0] > HEALTH_KEEP:
                self._health = at, self._ask_health(self._inspector.server)
            return Answer(at, found.plain(), None, [asdict(host) for host in found.hosts], self._health[1])
        except JobQueueError as error:
            return Answer(time.monotonic(), None, str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, it must not end the scrape; its text may hold a password
            return Answer(time.monotonic(), None, f"Redis could not be asked: {type(error).__name__}")


def inspector(settings: Settings) -> Any:
    """One for the queues of these settings."""
    from jobqueue.redis.inspect import Inspector

    # Queues that pools serve are shown from the start, also those that nobody has put anything into yet.
    served = {queue: settings.queue(queue) for pool in settings.pools for queue in pool.queues}
    return Inspector(settings.redis, served | settings.queues)
