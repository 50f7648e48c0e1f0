"""`InMemoryQueue`: a JobQueue whose server is a few dicts.

Everything a producer can do is the real thing (the same class, the same checks, the same bytes); only the transport
differs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobqueue import codec
from jobqueue.client import JobQueue
from jobqueue.errors import QueueFull
from jobqueue.job import Envelope
from jobqueue.memory import MemoryQueue
from jobqueue.port import Enqueued, NewJob, State
from jobqueue.settings import QueueSettings, settings_of


@dataclass(frozen=True, slots=True)
class Queued:
    """One job that waits (or is dead), decoded. `payload`: the decoded JSON, or the bytes of a raw queue."""

    queue: str
    state: State
    id: str
    type: str
    payload: Any
    envelope: Envelope


class MemoryProducer:
    """What a JobQueue asks of a server beside the port."""

    epoch = 0

    def __init__(self, port: MemoryQueue) -> None:
        self.port = port

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Exception]:
        """See ProducerPort."""
        return self.port.enqueue(jobs)

    def register(self, queues: Sequence[str]) -> None:
        """See ProducerPort."""
        self.port.register(queues)

    def now_ms(self) -> int:
        """See ProducerPort."""
        return self.port.now_ms()

    def push(self, queue: str, elements: Sequence[bytes], max_length: int | None) -> tuple[int, int]:
        """Plain jobs: how many, in order, are in, and how long the queue was before."""
        length = len(self.port.state(queue).pending)
        answers = self.port.enqueue([NewJob(queue, "", element, max_length=max_length) for element in elements])
        return sum(not isinstance(answer, QueueFull) for answer in answers), length

    def durable(self, since: int) -> bool | None:  # noqa: ARG002
        """Nothing is asked for, nothing is reached."""
        return None

    def close(self) -> None:
        """Nothing is open."""


class InMemoryQueue(JobQueue):
    """JobQueue for tests. `queues` as there. `jobs` looks inside, `travel` moves its clock, `drain` (beside it) runs
    what is in it.
    """

    def __init__(self, *, queues: Mapping[str, QueueSettings | Mapping[str, Any]] | None = None) -> None:
        super().__init__(queues=queues)
        self._ahead_ms = 0
        self.port = MemoryQueue(self.queues, lambda: time.time_ns() // 1_000_000 + self._ahead_ms)
        self._made = MemoryProducer(self.port)

    def travel(self, seconds: float) -> None:
        """Let time pass for the queue (not for the program): what is due by then may run in the next `drain`."""
        self._ahead_ms += int(seconds * 1000)

    def jobs(self, queue: str | None = None, state: State = "pending") -> list[Queued]:
        """What is in the queue (in all, without a name), next one first; scheduled and dead ones earliest first."""
        names = [queue] if queue is not None else sorted(self.port.queues)
        return [self._queued(name, state, element) for name in names for element in self._elements(name, state)]

    def clear(self) -> None:
        """Forget everything."""
        self.port.queues.clear()

    def raw_type(self, queue: str) -> str | None:
        """The type that all elements of a raw queue have; None for a JSON queue."""
        settings = settings_of(self.queues, queue)
        return settings.handler if settings.codec == "raw" else None

    def __repr__(self) -> str:
        return f"<InMemoryQueue { ({name: len(q.pending) for name, q in self.port.queues.items()}) }>"

    def _elements(self, queue: str, state: State) -> list[bytes]:
        q = self.port.state(queue)
        match state:
            case "pending":
                return [*reversed(q.next), *reversed(q.pending)]
            case "processing":
                return [element for held in q.processing.values() for element in reversed(held)]
            case "scheduled" | "dead":
                return sorted(times := q.scheduled if state == "scheduled" else q.dead, key=lambda e: (times[e], e))

    def _queued(self, queue: str, state: State, element: bytes) -> Queued:
        raw_type = self.raw_type(queue)
        try:
            envelope = codec.decode(element, raw_type=raw_type)
        except codec.Malformed as malformed:
            return Queued(queue, state, malformed.envelope.id, "", codec.body(element), malformed.envelope)
        payload: Any = codec.body(element) if raw_type is not None else msgspec.json.decode(envelope.payload)
        return Queued(queue, state, envelope.id, envelope.type, payload, envelope)
