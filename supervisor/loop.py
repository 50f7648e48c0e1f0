"""The master's one wait: signals, channels and time, in one selector. Nothing else in the master blocks.

Not a framework: it calls nobody back, it returns what happened. Called by the master only, from its main thread.
Deaths of children need no descriptor of their own here: SIGCHLD wakes the loop, and every turn asks for all of them.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Final

from supervisor.channel import Channel, ChannelClosed

STALL: Final = 1.0  # seconds beyond what was asked for; a loop that turns has no other way to lose so much time
_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE


@dataclass(frozen=True, slots=True)
class Turn:
    """What a wait ended with. Seconds; `stalled` > 0: for so long nobody looked, since the machine or we slept."""

    now: float
    channels: tuple[Channel, ...]
    signals: tuple[int, ...]
    stalled: float


class Loop:
    """Signals are only recorded by their one handler; the wakeup descriptor ends the wait."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._wakeup = socket.socketpair()
        for sock in (self._wake, self._wakeup):
            sock.setblocking(False)
        self._selector.register(self._wake, _READ)
        self._seen: collections.deque[int] = collections.deque()
        self._interests: dict[Channel, int] = {}
        self.now, self._boot = time.monotonic(), _boottime()

    def install(self, numbers: Iterable[int]) -> None:
        """Record these signals from now on. Do it before the first child and before anything slow is imported."""
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._record)
            signal.siginterrupt(number, False)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self._seen.append(number)

    def watch(self, channel: Channel) -> None:
        self._selector.register(channel, _READ)
        self._interests[channel] = _READ

    def forget(self, channel: Channel) -> None:
        """Stop watching and close; harmless if it was done before."""
        if self._interests.pop(channel, None) is not None:
            self._selector.unregister(channel)
        channel.close()

    def wait(self, until: float) -> Turn:
        """Until something happens or the monotonic clock says `until`; channels in the result have something to read."""
        for channel, interest in self._interests.items():
            wanted = _READ | _WRITE if channel.wants_write else _READ
            if wanted != interest:
                self._selector.modify(channel, wanted)
                self._interests[channel] = wanted
        timeout = max(0.0, until - time.monotonic())
        readable = []
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._wake:
                with contextlib.suppress(BlockingIOError):
                    self._wake.recv(4096)
                continue
            assert isinstance(key.fileobj, Channel)
            if events & _WRITE:
                with contextlib.suppress(ChannelClosed):  # its end-of-file is read like anybody's
                    key.fileobj.flush()
            if events & _READ:
                readable.append(key.fileobj)
        signals = tuple(self._seen.popleft() for _ in range(len(self._seen)))
        return self._turn(timeout, readable, signals)

    def _turn(self, timeout: float, readable: list[Channel], signals: tuple[int, ...]) -> Turn:
        now, boot = time.monotonic(), _boottime()
        passed, slept = now - self.now, (boot - self._boot) - (now - self.now)
        lost = max(passed - timeout, slept)
        self.now, self._boot = now, boot
        return Turn(now, tuple(readable), signals, lost if lost > STALL else 0.0)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for channel in list(self._interests):
            self.forget(channel)
        self._selector.close()
        self._wake.close()
        self._wakeup.close()


def _boottime() -> float:
    """Like the monotonic clock, but it also runs while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
