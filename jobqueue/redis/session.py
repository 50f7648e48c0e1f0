"""A worker's or steward's connections to Redis as one thing that lives and dies together: open, greet, check, teach, use, close.

No reconnecting here: whoever uses a session makes a new one after an error, and reconciles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jobqueue.redis.connect import Server, check_server, endpoint
from jobqueue.redis.parking import Parking
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire
from jobqueue.settings import QueueSettings, RedisSettings

WORKER_VERBS = ("join", "settle", "reconcile", "retire")


class Link:
    """One checked connection and the queue port on it. `server` is what it said of itself. Raises Unavailable, ServerRefused, UnsafeServer."""

    def __init__(
        self, settings: RedisSettings, queues: Mapping[str, QueueSettings], name: str, timeout: float | None = None
    ) -> None:
        self._settings, self.name = settings, name
        self._endpoint, self._timeout = endpoint(settings), timeout or settings.socket_timeout
        self.wire = self.dial()
        try:
            self.server: Server = check_server(self.wire.call, settings)
        except BaseException:
            self.wire.close()
            raise
        self.queue = RedisQueue(self.wire, settings.key_prefix, queues, self.server.version)

    def dial(self) -> Wire:
        """One more connection of the same kind."""
        return Wire(self._endpoint, self.name, self._timeout)

    def close(self) -> None:
        self.wire.close()


class WorkerSession:
    """See `jobqueue.worker.Session`. `wakeup_fd` becomes readable when the worker is told something; it is emptied by `drain_wakeup`.
    `complete`: open the connections for waiting at once. After an outage a server may let one in and no more: such a session is none,
    and the next attempt must come later, not at once. `turned` is called at least once in a few seconds while it waits."""

    def __init__(
        self,
        settings: RedisSettings,
        queues: Mapping[str, QueueSettings],
        name: str,
        served: Sequence[str],
        wakeup_fd: int,
        drain_wakeup: Callable[[], None],
        turned: Callable[[], None] = lambda: None,
        *,
        complete: bool = False,
    ) -> None:
        self._link = Link(settings, queues, name)
        self.port = self._link.queue
        self._wakeup_fd, self._drain = wakeup_fd, drain_wakeup
        self._parking = Parking(self._link.wire, self._link.dial, {q: self.port.keys(q) for q in served}, turned)
        self.warnings = self._link.server.warnings
        if complete:
            try:
                self._parking.open()
            except BaseException:
                self.close()
                raise

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        woken = self._parking.wait(queues, timeout, self._wakeup_fd)
        self._drain()
        return woken

    def settled(self) -> bool:
        return self._parking.settled()

    def close(self) -> None:
        self._parking.close()
        self._link.close()
