"""What a producer does on a real server: the port's verbs, a clock that is asked once a connection, queues made known, durability.

Not here: how a job is written (`jobqueue.draft`) and what waiting for room means (`jobqueue.client`, the only caller).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from jobqueue.errors import ServerRefused
from jobqueue.port import Enqueued, NewJob
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.server import Server
from jobqueue.settings import QueueSettings, RedisSettings

DURABLE_WITHIN_MS = 1000


class RedisProducer:
    """A ProducerPort over a `Server`. Thread-safe and fork-safe as that one is."""

    def __init__(self, settings: RedisSettings, queues: Mapping[str, QueueSettings]) -> None:
        self.server = Server(settings)
        self._queues = queues
        self._queue: RedisQueue | None = None
        self._offset_ms = 0.0
        self._asked_at: int | None = None
        self._known: set[tuple[int, str]] = set()

    @property
    def queue(self) -> RedisQueue:
        """The port itself, made for the version of the server that answers."""
        version = self.server.version()
        if self._queue is None or self._queue.version != version:
            self._queue = RedisQueue(self.server, self.server.settings.key_prefix, self._queues, version)
        return self._queue

    def now_ms(self) -> int:
        """The server's clock: asked once a connection, then carried on by our monotonic one."""
        self.server.connect()
        if self._asked_at != self.server.epoch:
            epoch = self.server.epoch
            self._offset_ms = self.queue.now_ms() - time.monotonic() * 1000
            self._asked_at = epoch
        return int(time.monotonic() * 1000 + self._offset_ms)

    def register(self, queues: Iterable[str]) -> None:
        """Make queues known to dashboards; costs nothing from the second time on, until the connection changes."""
        epoch = self.server.epoch
        unknown = [queue for queue in queues if (epoch, queue) not in self._known]
        if unknown:
            self.queue.register(unknown)
            self._known = {known for known in self._known if known[0] == epoch} | {(epoch, queue) for queue in unknown}

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Exception]:
        """See ProducerPort."""
        self.register({job.queue for job in jobs})
        return self.queue.enqueue(jobs)

    def push(self, queue: str, elements: Sequence[bytes], max_length: int | None) -> tuple[int, int]:
        """Many plain jobs (at most 2,000) by one script: how many, in order, are in, and how long the queue was before.

        Raises ServerRefused (none is in), Unavailable.
        """
        self.register((queue,))
        keys = self.queue.keys(queue)
        limit: object = "" if max_length is None else max_length
        taken, length = self.server.run("push", [keys.pending, keys.stats], [limit, *elements])
        return int(taken), int(length)

    def durable(self) -> bool | None:
        """Whether what this thread has enqueued is on a replica, or on disk, as `durability` asks; None if it asks for nothing.

        False after a second of waiting: the jobs are in, but a failover (or a power cut) now may lose them.
        """
        match self.server.settings.durability:
            case "none":
                return None
            case "replica":
                return int(self.server.call("WAIT", 1, DURABLE_WITHIN_MS)) >= 1
            case "fsync":
                try:
                    local, _ = self.server.call("WAITAOF", 1, 0, DURABLE_WITHIN_MS)
                except ServerRefused as refused:
                    if refused.code in ("NOPERM", "NOAUTH"):
                        raise
                    return False  # appendonly is off, or the server is older than WAITAOF
                return int(local) >= 1
