"""The steward's way to Redis: its connection, the call parked on the alarms, and what is known of an outage.

No duties and no loop (`supervisor.stewardship`, `supervisor.roles.steward`, the only caller). Connections live and die
together; after any error all of them are dropped and new ones are opened, later each time up to a second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Any, Final

from jobqueue.errors import JobQueueError, ServerRefused, TlsFailed, UnsafeServer
from jobqueue.redis.session import Link
from jobqueue.redis.wire import PENDING
from supervisor.probation import HOPELESS
from supervisor.settings import Settings

TIMEOUT: Final = 2.0  # seconds, of one reply: the master replaces a steward that is silent for 5
ALARM_BLOCK: Final = 1  # seconds a call stays parked on the alarms
ALARM_PATIENCE: Final = 3.0  # how much later its answer may come before the connection counts as lost


def hopeless(error: JobQueueError) -> bool:
    """Whether asking this server again is of no use."""
    return isinstance(error, UnsafeServer | TlsFailed) or (isinstance(error, ServerRefused) and error.code in HOPELESS)


class Alarms:
    """One parked call on the alarms of all queues: a token there says that something earlier than known is due."""

    def __init__(self, link: Link) -> None:
        self._link, self._wire, self._asked = link, link.dial(), 0.0

    def fileno(self) -> int:
        return self._wire.fileno()

    def park(self, queues: Iterable[str]) -> None:
        """Wait for a token in any of these, for a second."""
        self._wire.send("BLPOP", *[self._link.queue.keys(q).alarm for q in queues], ALARM_BLOCK)
        self._asked = time.monotonic()

    def rung(self, queues: Iterable[str]) -> list[str] | None:
        """The answer: which queue's alarm it was, if any. None: not there yet. Raises ServerRefused, Unavailable."""
        reply = self._wire.poll()
        if reply is PENDING:
            return None
        if isinstance(reply, ServerRefused):
            if reply.code != "UNBLOCKED":
                raise reply
            return []
        if reply is None:
            return []
        return [queue for queue in queues if self._link.queue.keys(queue).alarm.encode() == reply[0]]

    def check(self, now: float) -> None:
        """Raises Unavailable if the call has been parked for too long: else the steward would be deaf for ever."""
        if now - self._asked > ALARM_BLOCK + ALARM_PATIENCE:
            raise self._wire.lost("the parked call on the alarms was not answered in time")

    def close(self) -> None:
        self._wire.close()


class Lines:
    """`link` and `alarms` are there, or neither is. One log line when an outage begins and one when it ends."""

    def __init__(self, settings: Settings, log: Any) -> None:
        self._settings, self._log = settings, log
        self.link: Link | None = None
        self.alarms: Alarms | None = None
        self.retry_at = self._delay = 0.0
        self._down = False

    def open(self) -> tuple[Link, Alarms]:
        """Raises Unavailable, ServerRefused, UnsafeServer; then `drop` or `lost` must follow."""
        self.link = Link(self._settings.redis, self._settings.queues, "jqd:steward", TIMEOUT)
        self.alarms = Alarms(self.link)
        return self.link, self.alarms

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
