"""Looking at single jobs: pages of a queue's lists, one job by its id. Read-only, a few megabytes at a time.

Not here: counts (`jobqueue.redis.inspect`) and changes (`jobqueue.redis.operate`). Used by jqctl and by operator actions. Jobs move while
one looks: pages are read such that a job may be seen twice, but is missed only if it moves against the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobqueue import codec
from jobqueue.job import Envelope
from jobqueue.port import State
from jobqueue.redis.inspect import Inspector
from jobqueue.where import Facts, Filter

PAGE_BYTES = 1 << 22
MOST = 1_000
ALL = Filter()


@dataclass(frozen=True, slots=True)
class Entry:
    """One job where it lies. `score_ms`: due time or time of death. `problem`: why its bytes are no job. `key`: of the list it is in."""

    queue: str
    state: State
    key: str
    element: bytes
    envelope: Envelope
    raw: bool = False
    score_ms: int | None = None
    worker: str | None = None
    problem: str | None = None

    @property
    def payload(self) -> bytes:
        """JSON, or the bytes of a raw or unreadable element."""
        if self.raw or self.problem is not None:
            return codec.body(self.element)
        return bytes(self.envelope.payload)

    def facts(self, now_ms: int) -> Facts:
        """What a filter can ask for."""
        e, since = self.envelope, self.score_ms if self.score_ms is not None else self.envelope.enqueued_at
        error = e.error
        return {
            "type": e.type, "id": e.id, "queue": self.queue, "unique": e.unique, "payload": self.payload.decode("utf-8", "replace"),
            "kind": error.kind if error else "", "message": error.message if error else "",
            "error": f"{error.kind}: {error.message}" if error else "",
            "attempt": float(e.attempt), "crashes": float(e.crashes), "age": (now_ms - since) / 1000 if since else 0.0,
        }  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """For JSON; what is at its default is left out."""
        e = self.envelope
        found: dict[str, Any] = {"queue": self.queue, "state": self.state, "id": e.id, "type": e.type}
        found |= (
            {"payload": msgspec.Raw(self.payload)}
            if not self.raw and self.problem is None
            else {"raw": _text(self.payload)}
        )
        if self.score_ms is not None:
            found["due_at" if self.state == "scheduled" else "died_at"] = self.score_ms
        told = {
            "worker": self.worker,
            "problem": self.problem,
            "error": msgspec.to_builtins(e.error) if e.error else None,
        }
        for name in (
            "attempt",
            "crashes",
            "max_attempts",
            "time_limit",
            "enqueued_at",
            "expires_at",
            "unique",
            "headers",
        ):
            told[name] = getattr(e, name)
        return found | {name: value for name, value in told.items() if value}


class Browser:
    """Reads jobs of one server. Raises Unavailable, ServerRefused."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector, self.server = inspector, inspector.server

    def ls(
        self, queue: str, state: State = "pending", offset: int = 0, limit: int = 50, *, newest: bool = False
    ) -> list[Entry]:
        """One page. Oldest first (for scheduled ones: due first), or newest first."""
        k = self.inspector.keys(queue)
        match state:
            case "scheduled" | "dead":
                return self._ranked(queue, state, offset, limit, newest=newest)
            case "processing":
                entries = [entry for page in self.pages(queue, state) for entry in page]
                return (entries[::-1] if newest else entries)[offset : offset + limit]
            case "pending":
                # `next` is before the ready list, and holds a handful.
                moving = [self._entry(queue, state, k.next, e) for e in self.server.call("LRANGE", k.next, 0, MOST)]
                if newest:
                    rest = self.listed(queue, k.pending, offset, offset + limit - 1)
                    room = limit - len(rest)
                    beyond = max(0, offset - int(self.server.call("LLEN", k.pending)))
                    return rest + moving[beyond : beyond + room] if room else rest
                moving.reverse()
                head, skip = moving[offset : offset + limit], max(0, offset - len(moving))
                room = limit - len(head)
                rest = self.listed(queue, k.pending, -skip - room, -skip - 1)[::-1] if room else []
                return head + rest

    def pages(self, queue: str, state: State) -> Iterator[list[Entry]]:
        """All jobs of a state, page by page."""
        k = self.inspector.keys(queue)
        match state:
            case "scheduled" | "dead":
                yield from _adaptive(lambda at, size: self._ranked(queue, state, at, size, newest=False))
            case "pending":
                yield from _adaptive(lambda at, size: self.listed(queue, k.pending, at, at + size - 1))
                yield from _adaptive(lambda at, size: self.listed(queue, k.next, at, at + size - 1))
            case "processing":
                for worker in self.inspector.counts(queue).leases:
                    key = k.processing(worker)
                    found = [
                        self._entry(queue, state, key, e, worker=worker) for e in self.server.call("LRANGE", key, 0, -1)
                    ]
                    yield found[::-1]

    def dead(self, queue: str, where: Filter = ALL) -> Iterator[list[Entry]]:
        """Pages of the dead letters that were dead already when this began, oldest first. The caller may take away what it was given."""
        began, after, seen = self.now_ms(), 0, set[int]()
        # By time of death, not by rank: ranks move while letters are taken away.
        while page := self._died(queue, after, began, seen):
            last = page[-1].score_ms or 0
            seen = {hash(e.element) for e in page if e.score_ms == last} | (seen if last == after else set())
            after = last
            yield [entry for entry in page if where.holds(entry.facts(began))]

    def find(self, job_id: str, queue: str | None = None, most: int = 1_000_000) -> Entry | None:
        """The job with this id, in any state; looks through everything (O(n)), but at `most` so many jobs."""
        needle, seen = job_id.encode("utf-8", "replace"), 0
        for name in [queue] if queue is not None else self.inspector.queues():
            # In the order in which jobs move, so that one that moves meanwhile is met again.
            for state in _STREAM:
                for page in self.pages(name, state):
                    for entry in page:
                        if needle in entry.element and entry.envelope.id == job_id:
                            return entry
                    seen += len(page)
                    if seen >= most:
                        return None
        return None

    def scored(
        self, queue: str, state: State, start: int | None, skip: int, limit: int, *, newest: bool
    ) -> list[Entry]:
        """Scheduled jobs or dead letters from the score `start` on (None: from the end), without the first `skip` of them."""
        k = self.inspector.keys(queue)
        key = k.scheduled if state == "scheduled" else k.dead
        verb, near, far = ("ZREVRANGEBYSCORE", "+inf", "-inf") if newest else ("ZRANGEBYSCORE", "-inf", "+inf")
        found = self.server.call(verb, key, near if start is None else start, far, "WITHSCORES", "LIMIT", skip, limit)
        return self._scored(queue, state, key, found)

    def entry(self, like: Entry, element: bytes) -> Entry:
        """Other bytes in the place of `like`."""
        return self._entry(like.queue, like.state, like.key, element, score_ms=like.score_ms, worker=like.worker)

    def now_ms(self) -> int:
        seconds, micros = self.server.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def listed(self, queue: str, key: str, first: int, last: int) -> list[Entry]:
        """A range of one list of jobs that wait, in Redis's order."""
        return [self._entry(queue, "pending", key, e) for e in self.server.call("LRANGE", key, first, last)]

    def _ranked(self, queue: str, state: State, offset: int, limit: int, *, newest: bool) -> list[Entry]:
        k = self.inspector.keys(queue)
        key = k.scheduled if state == "scheduled" else k.dead
        order = ("REV",) if newest else ()
        flat = self.server.call("ZRANGE", key, offset, offset + limit - 1, *order, "WITHSCORES")
        return self._scored(queue, state, key, flat)

    def _died(self, queue: str, after: int, until: int, seen: set[int]) -> list[Entry]:
        """The next letters, without those of the millisecond `after` that were seen already."""
        key, most = self.inspector.keys(queue).dead, 100 + len(seen)
        flat = self.server.call("ZRANGEBYSCORE", key, after, until, "WITHSCORES", "LIMIT", 0, most)
        found = self._scored(queue, "dead", key, flat)
        return [entry for entry in found if entry.score_ms != after or hash(entry.element) not in seen]

    def _scored(self, queue: str, state: State, key: str, flat: Sequence[bytes]) -> list[Entry]:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return [self._entry(queue, state, key, e, score_ms=int(float(score))) for e, score in pairs]

    def _entry(self, queue: str, state: State, key: str, element: bytes, **more: Any) -> Entry:
        raw_type = self.inspector.raw_type(queue)
        try:
            envelope, problem = codec.decode(element, raw_type=raw_type), None
        except codec.Malformed as malformed:
            envelope, problem = malformed.envelope, malformed.reason
        return Entry(queue, state, key, element, envelope, raw_type is not None, problem=problem, **more)


_STREAM: tuple[State, ...] = ("pending", "processing", "scheduled", "dead")


def _adaptive(read: Callable[[int, int], list[Entry]]) -> Iterator[list[Entry]]:
    """Pages of about PAGE_BYTES: the first is small, and tells how large the elements are."""
    at, size = 0, 16
    while page := read(at, size):
        yield page
        at += len(page)
        average = sum(len(entry.element) for entry in page) // len(page) + 1
        size = max(1, min(MOST, PAGE_BYTES // average))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
