"""A worker's or steward's connections to a Cluster as one thing: open, check each node, use, close. Beside `jobqueue.redis.session`.

A node that is lost or does not answer costs only the queues of its shard. What a process remembers beyond the life of its connections (the
map of slots, which nodes failed, a worker's standing in its queues) is in `chart` and `Connector`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from jobqueue import address
from jobqueue.errors import JobQueueError, ServerRefused, Unavailable, UnsafeServer
from jobqueue.redis.cluster.chart import Chart
from jobqueue.redis.cluster.parking import ClusterParking
from jobqueue.redis.cluster.queue import ClusterQueue
from jobqueue.redis.cluster.standing import Away, Standing
from jobqueue.redis.cluster.wire import ClusterWire, Line
from jobqueue.redis.connect import Server, check_server, endpoint
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire
from jobqueue.settings import QueueSettings, RedisSettings

LOOK: Final = 0.25  # seconds between two looks of a steward at queues that are away
PAUSE: Final = 0.1  # seconds until a queue that was set aside is asked again
LONGEST: Final = 1.0
_charts: dict[RedisSettings, Chart] = {}


def chart(settings: RedisSettings) -> Chart:
    """What this process knows of that Cluster: at first the hosts of `redis.url`, later all that its nodes have told."""
    if settings not in _charts:
        _charts[settings] = Chart(address.parse(settings.url).hosts, endpoint(settings))
    return _charts[settings]


class ClusterLink:
    """Checked connections to the nodes and the queue port on them. See `jobqueue.redis.session.Link`, whose place it takes.

    `server` is all masters as one: the oldest version, every warning once. Raises Unavailable if no node answers, UnsafeServer if one
    would lose jobs."""

    def __init__(
        self,
        settings: RedisSettings,
        queues: Mapping[str, QueueSettings],
        name: str,
        timeout: float | None = None,
        standing: Standing | None = None,
    ) -> None:
        self._settings = settings
        self.server = Server((1 << 30,), "", ())
        self.wire = ClusterWire(chart(settings), name, timeout or settings.socket_timeout, self._opened)
        common = (self.wire, settings.key_prefix, queues, self.server.version)
        self.queue = RedisQueue(*common) if standing is None else ClusterQueue(*common, standing)
        self._aside: dict[str, Away] = {}
        self._looked = 0.0
        self.news = False
        """A queue that was set aside may be back: `reaches` says which."""
        try:
            self.wire.load()
            for place in self.wire.masters():
                error = self._try(lambda place=place: self.wire.line(place))  # type: ignore[misc]
                if isinstance(error, UnsafeServer):  # one that becomes master later is its own shard's trouble
                    raise error
        except BaseException:
            self.wire.close()
            raise

    apart: Final = True
    """Each queue may be on a server of its own."""

    @staticmethod
    def _try(connect: Callable[[], object]) -> JobQueueError | None:
        """A node that does not answer now is met again by the first command for it."""
        try:
            connect()
        except (Unavailable, ServerRefused, UnsafeServer) as error:
            return error
        return None

    def _opened(self, line: Line) -> None:
        """Every node is checked; the scripts are written for the oldest."""
        found, so_far = check_server(line.call, self._settings), self.server
        warnings = tuple(dict.fromkeys([*so_far.warnings, *found.warnings]))
        version = min(so_far.version, found.version)
        self.server = Server(version, found.run_id, warnings, so_far.may_unblock and found.may_unblock)
        self.queue.version = version

    # ------------------------------------------------------------------ for a steward

    def dial_for(self, queue: str) -> Wire:
        """One more connection to the node of a queue."""
        return self.wire.dial(self.queue.keys(queue).alarm)

    def set_aside(self, queue: str, error: JobQueueError) -> bool:  # noqa: ARG002 - a Link raises it
        """The shard of this queue does not answer, or not now; True if that is new."""
        now, before = time.monotonic(), self._aside.get(queue)
        pause = min(LONGEST, before.pause * 2) if before else PAUSE
        self._aside[queue] = Away(now + pause, pause)
        return before is None

    @property
    def aside(self) -> Sequence[str]:
        """Queues that cannot be looked after now."""
        return list(self._aside)

    def look(self) -> None:
        """To be called now and then: whether it is time to ask for queues that were set aside."""
        now = time.monotonic()
        due = bool(self._aside) and now - self._looked > LOOK
        self._looked = now if due else self._looked
        self.news = due and any(away.again <= now for away in self._aside.values())

    def reaches(self, queue: str) -> bool:
        """Whether this queue can be looked after; one that was set aside is asked once in a while."""
        away = self._aside.get(queue)
        if away is None:
            return True
        if time.monotonic() < away.again:
            return False
        k = self.queue.keys(queue)
        # Several keys, some of which are not there: this is refused as long as the slot is on its way.
        if error := self._try(lambda: self.wire.call("EXISTS", k.workers, k.next, k.alarm)):
            self.set_aside(queue, error)
            return False
        del self._aside[queue]
        return True

    def close(self) -> None:
        self.wire.close()


class ClusterSession:
    """See `jobqueue.worker.Session`, and `jobqueue.redis.session.WorkerSession` for the arguments."""

    def __init__(
        self,
        link: ClusterLink,
        standing: Standing,
        served: Sequence[str],
        wakeup_fd: int,
        drain_wakeup: Callable[[], None],
        turned: Callable[[], None],
    ) -> None:
        self._link, self._wakeup_fd, self._drain, self._standing = link, wakeup_fd, drain_wakeup, standing
        self.port = link.queue
        self.warnings = link.server.warnings
        keys = {queue: link.queue.keys(queue) for queue in served}
        may = link.server.may_unblock
        self._parking = ClusterParking(link.wire, keys, standing, turned, may_unblock=may)

    def wait(self, queues: Sequence[str], timeout: float) -> Sequence[str]:
        woken = self._parking.wait(queues, timeout, self._wakeup_fd)
        if self._parking.rang:
            self._drain()
        return woken

    def settled(self) -> bool:
        return self._parking.settled()

    def owes(self) -> bool:
        return bool(self._standing.debts)

    def close(self) -> None:
        self._parking.close()
        self._link.close()


class Connector:
    """Opens a worker's sessions, one after the other, and keeps what it knows between them."""

    def __init__(
        self,
        settings: RedisSettings,
        queues: Mapping[str, QueueSettings],
        name: str,
        served: Sequence[str],
        wakeup_fd: int,
        drain_wakeup: Callable[[], None],
        turned: Callable[[], None],
    ) -> None:
        self._settings, self._queues, self._name, self._served = settings, queues, name, served
        self._wakeup_fd, self._drain, self._turned = wakeup_fd, drain_wakeup, turned
        self._standing = Standing()

    def __call__(self) -> ClusterSession:
        """Raises Unavailable if no node answers, ServerRefused, UnsafeServer."""
        link = ClusterLink(self._settings, self._queues, self._name, None, self._standing)
        return ClusterSession(link, self._standing, self._served, self._wakeup_fd, self._drain, self._turned)
