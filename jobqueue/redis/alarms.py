"""How a steward waits for jobs that become due earlier than it knew: calls parked on the alarms of its queues.

One connection for all queues of one server; in a Cluster one for each queue, because no command names two slots (the first sixteen: the
others are looked at by the sweep, each second). Not the promotion itself (`supervisor.stewardship`). Called by the steward's loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from jobqueue.errors import JobQueueError, ServerRefused, Unavailable, UnsafeServer
from jobqueue.redis.wire import PENDING, Wire

BLOCK: Final = 1  # seconds a call stays parked
PATIENCE: Final = 3.0  # how much later its answer may come before the connection counts as lost
MOST: Final = 16  # parked calls


class Alarms:
    """`dial(queue)`: a connection to the server of that queue. `key_of(queue)`: its alarm. Where each queue has a server of its own,
    `on_lost(queue, error)` is told of one whose connection is lost, else that is raised."""

    def __init__(
        self,
        dial: Callable[[str], Wire],
        key_of: Callable[[str], str],
        on_lost: Callable[[str, JobQueueError], None] | None = None,
    ) -> None:
        self._dial, self._key_of, self._on_lost = dial, key_of, on_lost
        self._wires: dict[str, Wire] = {}  # by the first of the queues it listens for
        self._asked: dict[str, tuple[float, dict[bytes, str]]] = {}

    def listen(self, queues: Iterable[str]) -> None:
        """Park where nothing is parked. Raises Unavailable, ServerRefused, unless queues are apart."""
        for group in self._groups(list(queues)):
            first = group[0]
            if first in self._asked:
                continue
            try:
                wire = self._wires.get(first)
                if wire is None:
                    wire = self._wires[first] = self._dial(first)
                keys = {self._key_of(queue).encode(): queue for queue in group}
                wire.send("BLPOP", *keys, BLOCK)
            except (Unavailable, ServerRefused, UnsafeServer) as error:
                self._lost(first, error)
            else:
                self._asked[first] = time.monotonic(), keys

    def _groups(self, queues: list[str]) -> list[Sequence[str]]:
        if self._on_lost is not None:
            return [[queue] for queue in queues[:MOST]]
        return [queues] if queues else []

    def filenos(self) -> list[int]:
        return [self._wires[first].fileno() for first in self._asked]

    def heard(self, readable: set[int], now: float) -> list[str]:
        """Queues whose alarm rang. Answered calls are not parked again by themselves (`listen`). Raises Unavailable, ServerRefused, unless
        queues are apart; then such a queue is told of, and no longer listened for."""
        rang = []
        for first, (asked, keys) in list(self._asked.items()):
            wire = self._wires[first]
            try:
                if wire.fileno() in readable:
                    reply = wire.poll()
                    if reply is PENDING:
                        continue
                    del self._asked[first]
                    if isinstance(reply, ServerRefused):
                        if reply.code != "UNBLOCKED":
                            raise reply
                    elif reply is not None:
                        rang.append(keys[reply[0]])
                elif now - asked > BLOCK + PATIENCE:  # else it would be deaf for ever
                    raise wire.lost("the parked call on the alarms was not answered in time")
            except (Unavailable, ServerRefused) as error:
                self._lost(first, error)
        return rang

    def _lost(self, first: str, error: JobQueueError) -> None:
        self._asked.pop(first, None)
        wire = self._wires.pop(first, None)
        if wire is not None:
            wire.close()
        if self._on_lost is None:
            raise error
        self._on_lost(first, error)

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()
        self._asked.clear()
