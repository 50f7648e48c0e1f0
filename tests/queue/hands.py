"""A worker's hand on the port: it counts its trips as a real worker does, and does nothing else by itself."""

from __future__ import annotations

from collections.abc import Sequence

from jobqueue.outcome import Ack, Disposition
from jobqueue.port import Claim, Enqueued, NewJob, Settlement
from tests.queue.backends import Backend

LEASE_MS = 12_000


class Hand:
    """Worker `name`, joined to `queues`."""

    def __init__(self, backend: Backend, name: str = "w1", queues: Sequence[str] = ("q",)) -> None:
        self.port, self.name, self.queues = backend.again(), name, list(queues)
        self.home, self.trip, self.applied = self.queues[0], 0, 0
        self.port.join(name, self.queues, LEASE_MS)

    def settle(
        self,
        *done: Settlement,
        keep: int = 0,
        want: int = 0,
        order: Sequence[str] | None = None,
        return_next: bool = False,
    ) -> Claim:
        """The next trip."""
        self.trip += 1
        claim = self.again(*done, keep=keep, want=want, order=order, return_next=return_next)
        self.applied = self.trip
        if claim.jobs:
            self.home = claim.queue
        return claim

    def again(
        self,
        *done: Settlement,
        keep: int = 0,
        want: int = 0,
        order: Sequence[str] | None = None,
        return_next: bool = False,
        trip: int | None = None,
        applied: int | None = None,
    ) -> Claim:
        """A trip of that number, without counting it: as one that was sent before, or by somebody who lost count."""
        return self.port.settle(
            self.name,
            self.trip if trip is None else trip,
            self.applied if applied is None else applied,
            self.home,
            done,
            keep,
            self.queues if order is None else order,
            want,
            return_next,
        )

    def claim(self, want: int = 1, order: Sequence[str] | None = None) -> list[bytes]:
        """What a trip for up to `want` jobs brings."""
        return list(self.settle(want=want, order=order).jobs)

    def ack(self, *elements: bytes, keep: int = 0, want: int = 0) -> Claim:
        """Settle these as done."""
        return self.settle(*(done(element) for element in elements), keep=keep, want=want)


def done(element: bytes, disposition: Disposition | None = None, job_id: str = "", unique: str = "") -> Settlement:
    """What to do with `element`; an ack unless said otherwise."""
    return Settlement(disposition or Ack(), element, job_id, unique)


def enqueue(backend: Backend, *elements: bytes, queue: str = "q", unique: str = "", **options: int) -> list[Enqueued]:
    """Put plain jobs in whose ids are their elements; nothing may be refused."""
    jobs = [NewJob(queue, element.decode(), element, unique=unique, **options) for element in elements]  # type: ignore[arg-type]
    answers = backend.port.enqueue(jobs)
    assert all(isinstance(answer, Enqueued) for answer in answers), answers
    return answers  # type: ignore[return-value]
