"""The steward's line to the master: what the master has said, kept as facts, and what is said back.

Nothing is done about any of it here (`supervisor.roles.steward`, the only caller). A word may be lost: a sweep finds the
dead by itself, and the master repeats to a new steward what no old one has acknowledged.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from jobqueue.handlers import Registry, TypePolicy
from supervisor import channel as channels
from supervisor.channel import Channel, ChannelClosed, Message
from supervisor.recovery import Told

ALIVE: Final = 0.5  # seconds between signs of life


class MasterLine:
    """`deaths`: told and not yet dealt with. `policies`: retry policies by type. `sweep_asked`: since when the master
    waits for the last sweep. `gone`: since when there is no master. Times: monotonic seconds."""

    def __init__(self, channel: Channel, log: Any, *, serving: bool) -> None:
        self._channel, self._log = channel, log
        self.serving = serving  # else the steward of a reload waits for the word to serve
        self.deaths: dict[int, Told] = {}
        self.policies: dict[str, TypePolicy] = {}
        self.sweep_asked: float | None = None
        self.gone: float | None = None
        self.leaving = False
        self.speak_at = 0.0

    def fileno(self) -> int:
        return self._channel.fileno()

    def speak(self, now: float) -> None:
        """A sign of life, if it is time for one."""
        if now >= self.speak_at:
            self.speak_at = now + ALIVE
            self.tell({"kind": "alive"})

    def tell(self, message: Message) -> None:
        """Whatever it is; nothing if nobody listens any more."""
        if self.gone is not None:
            return
        try:
            self._channel.send(message)
            self._channel.flush()
        except ChannelClosed:
            self._hung_up()

    def listen(self, now: float) -> None:
        """Take in all that was said."""
        if self.gone is not None:
            return
        for message, fds in self._channel.receive():
            self._hear(message, fds, now)
            for fd in fds:
                os.close(fd)
        if self._channel.closed:
            self._hung_up()

    def _hear(self, message: Message, fds: list[int], now: float) -> None:
        match message.get("kind"):
            case "died":
                detail, row = message.get("detail", ""), message.get("row")
                told = Told(message["seq"], message["worker"], message["cause"], detail, row, now)
                self.deaths[told.seq] = told
            case "registry":
                self.policies.update(Registry.from_description(channels.read_memfd(fds[0])))
            case "serve":
                self.serving = True
            case "last_sweep":
                self.sweep_asked = now
            case "stop":
                self.leaving = True
            case kind:
                self._log.warning("unknown word of the master", kind=kind)

    def _hung_up(self) -> None:
        if self.gone is None and not self.leaving:
            self.gone = time.monotonic()
            self._log.warning("the master is gone, waiting for its workers to finish")
