"""`JobQueue`: what a program holds that enqueues jobs. Thread-safe, and usable in a child after a fork.

Not here: writing a job down (`jobqueue.draft`), the server (`jobqueue.redis.producing`, imported with redis-py on first use), looking
into queues (`jobqueue.redis.inspect`). It needs nothing of the supervisor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

import msgspec

from jobqueue import address, bulk, default
from jobqueue.default import set_default
from jobqueue.draft import Moment, Options, Span, draft
from jobqueue.errors import QueueFull, Unavailable
from jobqueue.patience import Patience
from jobqueue.port import Enqueued, NewJob, ProducerPort
from jobqueue.settings import QueueSettings, RedisSettings, settings_of

__all__ = ["Handle", "JobQueue", "set_default"]


class Producer(ProducerPort, Protocol):
    """The producer port with what only bulk and durability need."""

    def push(self, queue: str, elements: Sequence[bytes], max_length: int | None) -> tuple[int, int]: ...

    def durable(self, since: int) -> bool | None: ...

    @property
    def epoch(self) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Handle:
    """An enqueued job. `duplicate`: a live job held the unique key (or the id) already, and `id` is that one's; nothing was added.
    `id` is "" for a bare element of a raw queue. `durable`: whether `redis.durability` was reached; None if it asks for nothing."""

    id: str
    duplicate: bool = False
    durable: bool | None = None


class JobQueue:
    """Queues on one Redis. `url`: redis:// rediss:// unix:// redis+sentinel:// or embedded:DIR. `queues`: settings by queue name, where
    they differ from the defaults (a foreign key, a raw codec, max_length). Connects on first use."""

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        *,
        key_prefix: str = "jq",
        queues: Mapping[str, QueueSettings | Mapping[str, Any]] | None = None,
        redis: RedisSettings | None = None,
    ) -> None:
        self.redis = redis or RedisSettings(url=address.complete(url), key_prefix=key_prefix)
        address.parse(self.redis.url)
        self.queues = {
            name: msgspec.convert(entry, QueueSettings, from_attributes=True) for name, entry in (queues or {}).items()
        }
        self._raw_types = {
            entry.handler: name for name, entry in self.queues.items() if entry.codec == "raw" and entry.handler
        }
        self._made: Producer | None = None
        default.offer(self)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], *, environ: Mapping[str, str] = os.environ) -> Self:
        """From the file that jqd runs with; REDIS_URL and JQ_REDIS_ADDR win over its url. Raises ConfigError."""
        from jobqueue.yamlfile import load_producer

        found = load_producer(os.fspath(path), environ)
        return cls(redis=found.redis, queues=found.queues)

    def enqueue(
        self,
        type: str,  # noqa: A002
        payload: Any = None,
        *,
        queue: str | None = None,
        delay: Span | None = None,
        at: Moment | None = None,
        unique: str | None = None,
        max_attempts: int | None = None,
        time_limit: Span | None = None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002
        expires: Span | datetime | None = None,
        block: float | None = None,
    ) -> Handle:
        """Put one job in. The queue is `queue`, else the one its handler was registered with, else "default".

        `delay` or `at`: not before then. `unique`: no second live job with this key. `id`: enqueueing it again within an hour changes
        nothing. `expires`: dropped if not started by then. `block`: seconds to wait for room in a full queue.
        Raises InvalidJob, InvalidQueueName, QueueFull, ServerRefused, Unavailable (OutcomeUnknown if it may have been sent).
        """
        options = Options(delay, at, unique, max_attempts, time_limit, headers, id, expires)
        name = queue if queue is not None else self.queue_of(type)
        producer = self._producer()
        job = draft(type, payload, name, settings_of(self.queues, name), options, producer.now_ms())
        epoch = producer.epoch
        patience = Patience(block)
        while True:
            try:
                answer = self._once(producer, job)
            except Unavailable as lost:
                raise bulk.unknown(lost, [job]) from lost
            if isinstance(answer, Enqueued):
                return Handle(answer.id, answer.duplicate, producer.durable(epoch))
            if not isinstance(answer, QueueFull):
                raise answer
            patience.wait(answer)

    def enqueue_many(
        self, jobs: Iterable[tuple[Any, ...]], *, queue: str | None = None, block: float | None = None
    ) -> bulk.Bulk:
        """Put many in: tuples (type, payload) or (type, payload, options), options as of `enqueue`. Jobs without options travel fast.

        Reads `jobs` as it goes. Raises as `enqueue`, at the first job that is refused; its attribute `accepted` says how many jobs
        before it are in. For jobs that must not be doubled by a second try give each an `id`.
        """
        done = bulk.Bulk()
        for part in self.enqueue_parts(jobs, queue=queue, block=block):
            done.add(part)
        return done

    def enqueue_parts(
        self, jobs: Iterable[tuple[Any, ...]], *, queue: str | None = None, block: float | None = None
    ) -> Iterator[bulk.Bulk]:
        """As `enqueue_many`, but tells after each part (at most 2,000 jobs) what became of it: for progress, and for input without end."""
        return bulk.Sender(self, self._producer(), queue, block).parts(iter(jobs))

    def queue_of(self, type_: str) -> str:
        """Where a job of this type goes if nobody says: its handler's queue, a raw queue whose handler it is, else "default"."""
        # Only a process that has imported handlers can know of any.
        if (handlers := sys.modules.get("jobqueue.handlers")) is not None:
            entry = handlers.current().get(type_)
            if entry is not None and entry.policy.queue is not None:
                return str(entry.policy.queue)
        return self._raw_types.get(type_, "default")

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        if self._made is not None:
            self._made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JobQueue {address.masked(self.redis.url)} prefix {self.redis.key_prefix}>"

    @staticmethod
    def _once(producer: Producer, job: NewJob) -> Enqueued | Exception:
        if job.unique or job.deduplicate or job.delay_ms or job.due_ms:
            return producer.enqueue([job])[0]
        taken, length = producer.push(job.queue, [job.element], job.max_length)
        return Enqueued(job.id, False) if taken else QueueFull(job.queue, length, job.max_length or 0)

    def _producer(self) -> Producer:
        if self._made is None:
            from jobqueue.redis.producing import RedisProducer

            self._made = RedisProducer(self.redis, self.queues)
        return self._made
