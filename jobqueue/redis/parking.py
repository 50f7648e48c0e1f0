"""How an idle worker waits on several queues at once: one parked BLMOVE a queue, each on a connection of its own.

A parked call moves the job that wakes it from the ready list to `next`, which belongs to nobody: so nothing is lost
if this process is killed right then, or if its half-open connection fires after its death. The claim itself is the
trip that follows. In front of that trip, in the same write, the other parked calls are ended (CLIENT UNBLOCK). A
worker starts no handler while one of them is unanswered (`settled`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from jobqueue.errors import ServerRefused, Unavailable
from jobqueue.redis.keys import QueueKeys
from jobqueue.redis.wire import PENDING, Wire, pack, wait_readable

BLOCK = 1.0  # seconds a call stays parked on the server
PATIENCE = 3.0  # how much later than BLOCK the answer may come before the connection counts as lost
MOST = 16  # parked queues; further ones are looked at once a second
SOON = 0.1  # seconds, about, until a trip looks at a queue that refused a parked call
AGAIN = 0.001  # seconds between two attempts to end a parked call that UNBLOCK has overtaken


class Parked:
    """One connection and the call parked on it. `asked`: when (monotonic), None while nothing is parked."""

    __slots__ = ("_call", "asked", "fd", "unblock", "wire")

    def __init__(self, wire: Wire, keys: QueueKeys, unblockable: bool) -> None:
        self.wire, self.fd = wire, wire.fileno()
        self._call = pack("BLMOVE", keys.pending, keys.next, "RIGHT", "LEFT", BLOCK)
        client_id = wire.call("CLIENT", "ID") if unblockable else 0
        self.unblock = pack("CLIENT", "UNBLOCK", client_id)
        self.asked: float | None = None

    def park(self, now: float) -> None:
        if self.asked is None:
            self.wire.write(self._call)
            self.asked = now


class Parking:
    """All parked calls of one worker. `command`: the connection its trips use. They live and die together.
    `turned` is called each time the wait goes round."""

    def __init__(
        self,
        command: Wire,
        dial: Callable[[], Wire],
        keys: Mapping[str, QueueKeys],
        turned: Callable[[], None] = lambda: None,
        *,
        may_unblock: bool = True,
    ) -> None:
        self._turned, self._command, self._dial = turned, command, dial
        # Where UNBLOCK is not permitted a call can only be waited out: one is parked, the other queues are looked at.
        self._may_unblock = may_unblock
        self._keys = dict(list(keys.items())[: MOST if may_unblock else 1])
        self._partial = len(keys) > len(self._keys)
        self._parked: dict[str, Parked] = {}
        self._refused = False
        self.rang = False  # whether the last wait saw `wakeup_fd` readable

    def wait(self, queues: Sequence[str], timeout: float, wakeup_fd: int) -> Sequence[str]:
        """Wait until a job came for one of `queues`, `wakeup_fd` is readable or `timeout` seconds passed; which of
        `queues` a job came for.

        Whatever is still parked afterwards is ended by the next trip: follow it with `settled`. Raises Unavailable.
        """
        end = time.monotonic() + min(timeout, BLOCK if self._partial else timeout)
        self._refused = False
        for queue in queues:
            if queue in self._keys:
                self._place(queue).park(time.monotonic())
        woken: list[str] = []
        while not woken:
            now = time.monotonic()
            self._turned()
            self._check(now)
            waiting = [(queue, p) for queue, p in self._parked.items() if p.asked is not None]
            fds = [wakeup_fd, *(parked.fd for _, parked in waiting)]
            ready = wait_readable(fds, max(0.0, min(end - now, BLOCK + PATIENCE)))
            woken = [queue for queue, parked in waiting if parked.fd in ready and self._answered(parked, again=True)]
            self.rang = wakeup_fd in ready
            if self._refused:  # a trip looks in its place, but not at once and not with all others
                end, self._refused = min(end, now + SOON * (0.5 + random.random())), False
            if self.rang or time.monotonic() >= end:
                break
        self._end_parked()
        return woken

    def open(self) -> None:
        """Open all connections now, not each with its first call. Raises Unavailable, ServerRefused."""
        for queue in self._keys:
            self._place(queue)

    def _place(self, queue: str) -> Parked:
        parked = self._parked.get(queue)
        if parked is None:
            parked = self._parked[queue] = Parked(self._dial(), self._keys[queue], self._may_unblock)
        return parked

    def _answered(self, parked: Parked, *, again: bool) -> bool:
        """Read a parked call's answer if it is there; True if it moved a job. `again`: park anew if it just timed
        out."""
        reply = parked.wire.poll()
        if reply is PENDING:
            return False
        parked.asked = None
        if isinstance(reply, ServerRefused):
            if reply.code in ("OOM", "WRONGTYPE", "NOPERM"):
                self._refused = True  # cannot park there: trips look instead
                return False
            if reply.code != "UNBLOCKED":
                raise parked.wire.lost(reply)
            reply = None
        if reply is None and again:
            parked.park(time.monotonic())
        return reply is not None

    @staticmethod
    def _late(parked: Parked, now: float) -> bool:
        return parked.asked is not None and now - parked.asked > BLOCK + PATIENCE

    def _check(self, now: float) -> None:
        for parked in self._parked.values():
            if self._late(parked, now):
                raise parked.wire.lost("a parked call was not answered in time")

    def _end_parked(self) -> None:
        for parked in self._parked.values():
            if parked.asked is not None and self._may_unblock:
                self._command.defer(parked.unblock)

    def settled(self) -> bool:
        """After the trip that followed `wait`: wait until every parked call is answered. True if one of them moved a
        job meanwhile, so that one more trip has to return what is in `next`. An UNBLOCK that overtook its BLMOVE (it
        answers 0) is repeated.
        """
        moved, start = False, time.monotonic()
        while left := [p for p in self._parked.values() if p.asked is not None]:
            moved = any([self._answered(p, again=False) for p in left]) or moved  # noqa: C419 - every one is read
            left = [p for p in left if p.asked is not None]
            if not left:
                break
            self._check(time.monotonic())
            again = AGAIN if self._may_unblock else BLOCK
            if not wait_readable([p.fd for p in left], again) and time.monotonic() - start < BLOCK:
                self._unblock(left)
        return moved

    def _unblock(self, left: Sequence[Parked]) -> None:
        """Where UNBLOCK is not permitted the calls end by their own timeout."""
        if self._may_unblock:
            for parked in left[1:]:
                self._command.defer(parked.unblock)
            self._command.exchange(left[0].unblock)

    def close(self) -> None:
        """Close all parked connections."""
        for parked in self._parked.values():
            parked.wire.close()
        self._parked.clear()


__all__ = ["BLOCK", "MOST", "Parking", "Unavailable"]
