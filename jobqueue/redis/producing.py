"""What a producer does on a real server: the port's verbs, a clock that is asked once a connection, queues made known, durability.

Not here: how a job is written (`jobqueue.draft`) and what waiting for room means (`jobqueue.client`, the only caller).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from jobqueue.errors import ServerRefused
from jobqueue.port import Enqueued, NewJob
from jobqueue.redis import scripts
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.server import Server
from jobqueue.settings import QueueSettings, RedisSettings

DURABLE_WITHIN_MS = 1000
_FEW = 16


class RedisProducer:
    """A ProducerPort over a `Server`. Thread-safe and fork-safe as that one is."""

    def __init__(self, settings: RedisSettings, queues: Mapping[str, QueueSettings]) -> None:
        self.server = Server(settings)
        self._queues = queues
        self._queue: RedisQueue | None = None
        self._offset_ms = 0.0
        self._known: frozenset[str] = frozenset()
        self._made_at = self._asked_at = self._known_at = -1  # epochs of the server

    @property
    def queue(self) -> RedisQueue:
        """The port itself, made for the version of the server that answers."""
        if self._queue is None or self._made_at != self.server.epoch:
            version, self._made_at = self.server.version(), self.server.epoch
            self._queue = RedisQueue(self.server, self.server.settings.key_prefix, self._queues, version)
            # A script unknown in the middle of a pipeline would run after those behind it: teach them first.
            self._queue.teach(sorted(scripts.PRODUCING))
        return self._queue

    def now_ms(self) -> int:
        """The server's clock: asked once a connection, then carried on by our monotonic one."""
        if self._asked_at != self.server.epoch:
            asked = self.queue.now_ms()
            self._offset_ms, self._asked_at = asked - time.monotonic() * 1000, self.server.epoch
        return int(time.monotonic() * 1000 + self._offset_ms)

    def register(self, queues: Iterable[str]) -> None:
        """Make queues known to dashboards; costs nothing from the second time on, until the connection changes."""
        if self._known_at != self.server.epoch:
            self._known, self._known_at = frozenset(), self.server.epoch
        unknown = [queue for queue in queues if queue not in self._known]
        if unknown:
            self.queue.register(unknown)
            self._known |= frozenset(unknown)

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Exception]:
        """See ProducerPort."""
        self.register({job.queue for job in jobs})
        return self.queue.enqueue(jobs)

    def push(self, queue: str, elements: Sequence[bytes], max_length: int | None) -> tuple[int, int]:
        """Many plain jobs (at most 2,000) at once: how many, in order, are in, and how long the queue was before.

        Raises ServerRefused (none is in), Unavailable.
        """
        self.register((queue,))
        keys = self.queue.keys(queue)
        if max_length is None and len(elements) > _FEW:
            # The same without Lua, which copies every element twice: half the time at the server.
            count = ("HINCRBY", keys.stats, "enqueued", len(elements))
            length, _ = self.server.together([("LPUSH", keys.pending, *elements), count])
            return len(elements), int(length) - len(elements)
        limit: object = "" if max_length is None else max_length
        taken, length = self.server.run("push", [keys.pending, keys.stats], [limit, *elements])
        return int(taken), int(length)

    @property
    def epoch(self) -> int:
        return self.server.epoch

    def close(self) -> None:
        self.server.close()

    def durable(self, since: int) -> bool | None:
        """Whether what this thread has enqueued is on a replica, or on disk, as `durability` asks; None if it asks for nothing.

        False after a second: the jobs are in, but a failover (or a power cut) now may lose them. `since`: the epoch when they were
        sent; a newer connection knows nothing of them, and would say yes.
        """
        reached = False
        match self.server.settings.durability:
            case "none":
                return None
            case "replica":
                reached = int(self.server.call("WAIT", 1, DURABLE_WITHIN_MS)) >= 1
            case "fsync":
                try:
                    reached = int(self.server.call("WAITAOF", 1, 0, DURABLE_WITHIN_MS)[0]) >= 1
                except ServerRefused as refused:
                    if refused.code in ("NOPERM", "NOAUTH"):
                        raise
                    # Else appendonly is off, or the server is older than WAITAOF: not reached, and no failure of the enqueue.
        return reached and self.server.epoch == since
