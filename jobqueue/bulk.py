"""Many jobs at once: cut into parts of at most 2,000 jobs or a megabyte; each is a round trip or two.

Not here: single jobs, and what a job looks like (`jobqueue.draft`). `jobqueue.client` is the only caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobqueue import draft
from jobqueue.draft import PLAIN, Options
from jobqueue.errors import InvalidJob, JobQueueError, OutcomeUnknown, QueueFull, Unavailable
from jobqueue.job import VERSION, Envelope
from jobqueue.patience import Patience
from jobqueue.port import Enqueued, NewJob
from jobqueue.settings import QueueSettings, settings_of

if TYPE_CHECKING:
    from jobqueue.client import JobQueue, Producer

MOST = 2_000
BYTES = 1 << 20


@dataclass(slots=True)
class Bulk:
    """What became of many jobs. `ids`: of each job, in order ("" for a bare raw element; a duplicate's is the live job's).
    `duplicates`: how many were there already. `durable`: as of a single job, all together."""

    ids: list[str] = field(default_factory=list)
    duplicates: int = 0
    durable: bool | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, part: Bulk) -> None:
        self.durable = part.durable if not self.ids else self.durable and part.durable
        self.ids += part.ids
        self.duplicates += part.duplicates


@dataclass(slots=True)
class _Part:
    """Jobs read but not yet sent. In each queue the plain ones are older than the others, so its order is kept."""

    plain: dict[str, list[bytes]] = field(default_factory=dict)
    others: list[NewJob] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the others, in ids
    ids: list[str] = field(default_factory=list)


class Sender:
    """One call of `enqueue_many`. `queue`: for jobs that name none."""

    def __init__(self, jobs: JobQueue, producer: Producer, queue: str | None, block: float | None) -> None:
        self._jobs, self._producer, self._queue, self._block = jobs, producer, queue, block
        self._new_ids = draft.ids()
        self._routes: dict[str, str] = {}  # type → queue, for types whose plain jobs need no second look
        self.accepted = 0

    def parts(self, items: Iterator[Any]) -> Iterator[Bulk]:
        """Read, send, tell; part by part. Raises as JobQueue.enqueue; the error's `accepted` says how many jobs are in."""
        try:
            while (part := self._read(items)).ids:
                epoch = self._producer.epoch
                duplicates = self._send(part)
                yield Bulk(part.ids, duplicates, self._producer.durable(epoch))
        except JobQueueError as error:
            error.accepted = self.accepted  # type: ignore[attr-defined]
            error.add_note(f"{self.accepted} jobs of this call are in")
            raise

    def _read(self, items: Iterator[Any]) -> _Part:
        part, size, now_ms = _Part(), 0, self._producer.now_ms()
        plain, ids, others, encode, routes = part.plain, part.ids, part.others, draft.encode, self._routes
        for item, job_id in zip(islice(items, MOST), self._new_ids, strict=False):
            if others or len(item) != 2 or item[0] not in routes:
                size += self._read_other(part, item, now_ms, job_id)
            else:
                type_, payload = item
                try:
                    element = encode(
                        Envelope(type_, job_id, {} if payload is None else payload, "", 0, 0, None, now_ms, v=VERSION)
                    )
                except draft.UNENCODABLE as error:
                    raise draft.unencodable(type_, error) from error
                if (elements := plain.get(routes[type_])) is None:
                    elements = plain[routes[type_]] = []
                elements.append(element)
                ids.append(job_id)
                size += len(element)
            if size > BYTES:
                break
        return part

    def _read_other(self, part: _Part, item: Any, now_ms: int, job_id: str) -> int:
        """A job with options, of a raw queue, behind such a one, or the first of its type; returns its size."""
        type_, payload, options, queue = _taken_apart(item)
        name, settings = self._route(type_, queue)
        job = draft.draft(type_, payload, name, settings, options, now_ms, job_id)
        if options is PLAIN and not part.others:
            part.plain.setdefault(name, []).append(job.element)
        else:
            part.others.append(job)
            part.places.append(len(part.ids))
        part.ids.append(job.id)
        return len(job.element)

    def _route(self, type_: Any, queue: str | None) -> tuple[str, QueueSettings]:
        name = queue if queue is not None else self._queue if self._queue is not None else self._jobs.queue_of(type_)
        route = name, settings_of(self._jobs.queues, name)
        if queue is None and route[1].codec == "json":
            draft.check_type(type_, *route)
            self._routes[type_] = name
        return route

    def _send(self, part: _Part) -> int:
        for name, elements in part.plain.items():
            self._push(name, elements)
        waiting, duplicates, patience = list(zip(part.places, part.others, strict=True)), 0, Patience(self._block)
        while waiting:
            full = []
            answers = self._enqueue([job for _, job in waiting])
            for (place, job), answer in zip(waiting, answers, strict=True):
                if isinstance(answer, Enqueued):
                    part.ids[place] = answer.id
                    duplicates += answer.duplicate
                    self.accepted += 1
                elif isinstance(answer, QueueFull):
                    full.append((place, job))
            refused = [answer for answer in answers if isinstance(answer, Exception)]
            if other := next((error for error in refused if not isinstance(error, QueueFull)), None):
                raise other
            if len(full) < len(waiting):
                patience.progress()
            if isinstance(first := next(iter(refused), None), QueueFull):
                patience.wait(first)
            waiting = full
        return duplicates

    def _enqueue(self, others: list[NewJob]) -> list[Enqueued | Exception]:
        try:
            return self._producer.enqueue(others)
        except Unavailable as lost:
            raise unknown(lost, others) from lost

    def _push(self, name: str, elements: list[bytes]) -> None:
        limit, patience = settings_of(self._jobs.queues, name).max_length, Patience(self._block)
        while elements:
            try:
                taken, length = self._producer.push(name, elements, limit)
            except Unavailable as lost:
                raise (OutcomeUnknown(lost, "", jobs=len(elements)) if lost.sent else lost) from lost
            self.accepted += taken
            elements = elements[taken:]
            if taken:
                patience.progress()
            if elements:
                patience.wait(QueueFull(name, length + taken, limit or 0))


def unknown(lost: Unavailable, jobs: list[NewJob]) -> Unavailable:
    """What to tell of a connection lost while these were enqueued: nothing was sent, or nobody knows."""
    if not lost.sent:
        return lost
    return OutcomeUnknown(lost, jobs[0].id, jobs=len(jobs), repeatable=all(j.deduplicate or j.unique for j in jobs))


def _taken_apart(item: Any) -> tuple[Any, Any, Options, str | None]:
    """type, payload, options, queue of one item. Raises InvalidJob for anything but a tuple or list of two or three."""
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise InvalidJob(f"a job of many is {item!r:.80}", "Give tuples (type, payload) or (type, payload, options)")
    given = dict(item[2] or {}) if len(item) == 3 else {}
    queue = given.pop("queue", None)
    if not given:
        return item[0], item[1], PLAIN, queue
    try:
        return item[0], item[1], Options(**given), queue
    except TypeError:
        wrong = sorted(str(name) for name in given if name not in Options.__slots__)
        raise InvalidJob(f"there are no options {wrong}", f"There are: queue, {', '.join(Options.__slots__)}") from None
