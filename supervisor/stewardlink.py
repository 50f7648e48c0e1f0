"""The steward's way to Redis: its connection, the call parked on the alarms, and what is known of an outage.

No duties and no loop (`supervisor.stewardship`, `supervisor.roles.steward`, the only caller). Connections live and die
together; after any error all of them are dropped and new ones are opened, later each time up to a second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from jobqueue.errors import JobQueueError, ServerRefused, TlsFailed, UnsafeServer
from jobqueue.redis.alarms import Alarms
from jobqueue.redis.session import Link, link
from supervisor.probation import HOPELESS
from supervisor.settings import Settings

if TYPE_CHECKING:
    from jobqueue.redis.cluster.session import ClusterLink

TIMEOUT: Final = 2.0  # seconds, of one reply: the master replaces a steward that is silent for 5


def hopeless(error: JobQueueError) -> bool:
    """Whether asking this server again is of no use."""
    return isinstance(error, UnsafeServer | TlsFailed) or (isinstance(error, ServerRefused) and error.code in HOPELESS)


class Lines:
    """`link` and `alarms` are there, or neither is. One log line when an outage begins and one when it ends; the same for a queue of a
    Cluster that cannot be reached while others can."""

    def __init__(self, settings: Settings, log: Any) -> None:
        self._settings, self._log = settings, log
        self.link: Link | ClusterLink | None = None
        self.alarms: Alarms | None = None
        self.retry_at = self._delay = 0.0
        self._down = False
        self._missed: set[str] = set()

    def open(self, on_lost: Callable[[str, JobQueueError], None]) -> tuple[Link | ClusterLink, Alarms]:
        """Raises Unavailable, ServerRefused, UnsafeServer; then `drop` or `lost` must follow. `on_lost(queue, error)`: the alarm of a
        queue that has a server of its own is not heard any more."""
        made = self.link = link(self._settings.redis, self._settings.queues, "jqd:steward", TIMEOUT)
        lost = on_lost if made.apart else None
        self.alarms = Alarms(made.dial_for, lambda queue: made.queue.keys(queue).alarm, lost)
        return made, self.alarms

    def set_aside(self, queue: str, error: JobQueueError) -> None:
        """The shard of one queue does not answer: the others go on."""
        assert self.link is not None
        moved = isinstance(error, ServerRefused) and error.code in ("MOVED", "ASK")  # found again by the next command
        if self.link.set_aside(queue, error) and not moved:
            self._missed.add(queue)
            self._log.warning("a queue cannot be reached, the others go on", queue=queue, cause=str(error))

    def reached(self, queues: Iterable[str]) -> set[str]:
        """Those of them that can be looked after now."""
        assert self.link is not None
        found = {queue for queue in queues if self.link.reaches(queue)}
        for queue in self._missed & found:
            self._log.warning("a queue can be reached again", queue=queue)
        self._missed -= found
        return found

    def well(self) -> None:
        """The first things asked over the new connection were answered."""
        if self._down:
            self._log.warning("Redis is back")
        self._down, self._delay = False, 0.0

    def drop(self, again_in: float = 0.0) -> None:
        """Close them all; `again_in` seconds later is soon enough to open new ones."""
        for line in (self.alarms, self.link):
            if line is not None:
                line.close()
        self.link = self.alarms = None
        self.retry_at = time.monotonic() + again_in

    def lost(self, error: JobQueueError) -> None:
        """An error came over one of them."""
        self._delay = min(1.0, self._delay * 2 or 0.01)
        self.drop(self._delay * (0.5 + random.random() / 2))
        if not self._down:
            self._down = True
            self._log.warning("Redis is not available, waiting for it", cause=str(error))
