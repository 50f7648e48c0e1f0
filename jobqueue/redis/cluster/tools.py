"""A Cluster as producers, the exporter and jqctl use it: one `ClusterWire` for each thread of each process.

Behind `jobqueue.redis.server.Server`. Not for workers and steward, who look after their own
(`jobqueue.redis.cluster.session`).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from jobqueue.errors import ServerRefused, Unavailable
from jobqueue.redis.cluster.session import chart
from jobqueue.redis.cluster.wire import ClusterWire, Command
from jobqueue.settings import RedisSettings

PATIENCE: Final = 1.0  # seconds for which a slot on its way to another node is asked again
AGAIN: Final = 0.02
NAME: Final = "jobqueue"


class _Own(threading.local):
    wire: ClusterWire | None = None
    pid: int = 0


class Nodes:
    """See `Server`, which has the same verbs. Raises Unavailable (`sent` False: certainly not carried out), ServerRefused."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._own = _Own()

    @property
    def epoch(self) -> int:
        """Grows when a lost connection was replaced."""
        return chart(self._settings).reopened

    def wire(self) -> ClusterWire:
        """This thread's, with a map of the slots."""
        own = self._own
        if own.wire is None or own.pid != os.getpid():
            made = ClusterWire(chart(self._settings), NAME, self._settings.socket_timeout, careful=True)
            made.load()
            own.wire, own.pid = made, os.getpid()
        return own.wire

    def close(self) -> None:
        if self._own.wire is not None and self._own.pid == os.getpid():
            self._own.wire.close()
        self._own.wire = None

    def call(self, *command: Any) -> Any:
        """One command; WAIT and WAITAOF: on all nodes this thread has written to, the least of their answers."""
        if command[0] in ("WAIT", "WAITAOF"):
            return _least(self.wire().covered(*command))
        if command[0] == "SCRIPT":
            return self.each(*command)[0][1]
        [reply] = self._scattered([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """Refusals stand in their places; so does, as CLUSTERDOWN, that a shard cannot be reached. Raises Unavailable if one was lost on
        the way: what became of its commands is unknown."""
        if any(command[0] == "SCRIPT" for command in commands):
            return [self.call(*command) for command in commands]
        replies = self._scattered(commands)
        for i, reply in enumerate(replies):
            if isinstance(reply, Unavailable):
                if reply.sent:
                    raise reply
                replies[i] = ServerRefused(f"CLUSTERDOWN {reply}", reply.where)
        return replies

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """A transaction: the replies to MULTI, to each command, to EXEC."""
        deadline = time.monotonic() + PATIENCE
        while True:
            replies = self.wire().together(commands)
            if not any(map(_moving, replies)) or not _again(deadline):
                return replies

    def each(self, *command: Any) -> list[tuple[str, Any]]:
        """One command to every master: (where, reply or error)."""
        return [(str(place), reply) for place, reply in self.wire().each(*command)]

    def _scattered(self, commands: Sequence[Command]) -> list[Any]:
        """What is refused because its slot is on its way was not done, and is asked again for a while."""
        deadline, replies = time.monotonic() + PATIENCE, self.wire().scatter(commands)
        while (moving := [i for i, reply in enumerate(replies) if _moving(reply)]) and _again(deadline):
            for i, reply in zip(moving, self.wire().scatter([commands[i] for i in moving]), strict=True):
                replies[i] = reply
        return replies


def _moving(reply: Any) -> bool:
    return isinstance(reply, ServerRefused) and reply.code == "TRYAGAIN"


def _again(deadline: float) -> bool:
    time.sleep(AGAIN * (0.5 + random.random()))
    return time.monotonic() < deadline


def _least(replies: Sequence[Any]) -> Any:
    """Of WAIT: how many replicas at least; of WAITAOF: each of its two numbers. Nothing written is nothing reached."""
    if not replies:
        return 0
    if isinstance(replies[0], list):
        return [min(numbers) for numbers in zip(*replies, strict=True)]
    return min(replies)
