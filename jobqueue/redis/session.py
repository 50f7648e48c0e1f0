"""A worker's or steward's connections to Redis as one thing that lives and dies together: open, greet, check, teach,
use, close.

No reconnecting here: whoever uses a session makes a new one after an error, and reconciles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from jobqueue import address
from jobqueue.errors import JobQueueError
from jobqueue.redis.connect import Endpoint, Server, check_server, endpoint, sentinel_endpoint
from jobqueue.redis.parking import Parking
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire
from jobqueue.settings import QueueSettings, RedisSettings

if TYPE_CHECKING:
    from jobqueue.redis.cluster.session import ClusterLink
    from jobqueue.redis.sentinel import Group

WORKER_VERBS = ("join", "settle", "reconcile", "retire")


class Link:
    """One checked connection and the queue port on it. `server` is what it said of itself. Raises Unavailable,
    ServerRefused, UnsafeServer."""

    def __init__(
        self, settings: RedisSettings, queues: Mapping[str, QueueSettings], name: str, timeout: float | None = None
    ) -> None:
        self._settings, self.name = settings, name
        self._timeout = timeout or settings.socket_timeout
        group = _group(settings)
        self.wire = _open(settings, group, name, self._timeout)
        self._endpoint = self.wire.endpoint  # of a Sentinel group: who is the master now, for as long as this lives
        self.look: Callable[[], None] | None = _watch(group, self._endpoint)
        """To be called now and then: raises Unavailable if a Sentinel group has another master by now. None: one
        server, nothing to ask."""
        try:
            self.server: Server = check_server(self.wire.call, settings)
        except BaseException:
            self.wire.close()
            raise
        self.queue = RedisQueue(self.wire, settings.key_prefix, queues, self.server.version)

    def dial(self) -> Wire:
        """One more connection of the same kind."""
        return Wire(self._endpoint, self.name, self._timeout)

    def dial_for(self, queue: str) -> Wire:  # noqa: ARG002 - all queues are on this server
        """The same, for a queue's sake."""
        return self.dial()

    apart: Final = False
    """Whether each queue may be on a server of its own."""
    news: Final = False
    aside: Sequence[str] = ()

    def reaches(self, queue: str) -> bool:  # noqa: ARG002
        """Whether a queue can be looked after: all of them, or there is no link."""
        return True

    def set_aside(self, queue: str, error: JobQueueError) -> bool:  # noqa: ARG002
        """There is nothing to go on with beside it."""
        raise error

    def close(self) -> None:
        self.wire.close()


def link(
    settings: RedisSettings, queues: Mapping[str, QueueSettings], name: str, timeout: float | None = None
) -> Link | ClusterLink:
    """A Link, or what takes its place in a Cluster. Raises Unavailable, ServerRefused, UnsafeServer."""
    if not address.parse(settings.url).scheme.endswith("+cluster"):
        return Link(settings, queues, name, timeout)
    from jobqueue.redis.cluster.session import ClusterLink

    return ClusterLink(settings, queues, name, timeout)


def _group(settings: RedisSettings) -> Group | None:
    found = address.parse(settings.url)
    if not found.scheme.endswith("+sentinel"):
        return None
    from jobqueue.redis import sentinel

    return sentinel.Group(found.place, found.hosts, endpoint(settings), sentinel_endpoint(settings))


def _open(settings: RedisSettings, group: Group | None, name: str, timeout: float) -> Wire:
    if group is None:
        return Wire(endpoint(settings), name, timeout)
    from jobqueue.redis import sentinel

    return sentinel.connect(group, name, timeout)


def _watch(group: Group | None, where: Endpoint) -> Callable[[], None] | None:
    if group is None:
        return None
    from jobqueue.redis import sentinel

    return sentinel.Watch(group, where).look


class WorkerSession:
    """See `jobqueue.worker.Session`. `wakeup_fd` becomes readable when the worker is told something; it is emptied by
    `drain_wakeup`. `complete`: open the connections for waiting at once. After an outage a server may let one in and
    no more: such a session is none, and the next attempt must come later, not at once. `turned` is called at least
    once in a few seconds while it waits."""

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
        self._port = self._link.queue
        self._look = self._link.look
        self._wakeup_fd, self._drain = wakeup_fd, drain_wakeup
        keys = {q: self._port.keys(q) for q in served}
        may = self._link.server.may_unblock
        self._parking = Parking(self._link.wire, self._link.dial, keys, self._went_round(turned), may_unblock=may)
        self.warnings = self._link.server.warnings
        if complete:
            try:
                self._parking.open()
            except BaseException:
                self.close()
                raise

    @property
    def port(self) -> RedisQueue:
        """For the next trip; with Sentinels, once a second or so, only if they still name this server."""
        if self._look is not None:
            self._look()
        return self._port

    def _went_round(self, turned: Callable[[], None]) -> Callable[[], None]:
        look = self._look
        if look is None:
            return turned

        def both() -> None:
            turned()
            look()

        return both

    def wait(self, queues: Sequence[str], timeout: float) -> Sequence[str]:
        woken = self._parking.wait(queues, timeout, self._wakeup_fd)
        if self._parking.rang:
            self._drain()
        return woken

    def settled(self) -> bool:
        return self._parking.settled()

    def owes(self) -> bool:
        return False

    def close(self) -> None:
        self._parking.close()
        self._link.close()
