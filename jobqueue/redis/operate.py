"""What an operator may do to jobs and queues; every change is one guarded script, so it may race with workers and with itself.

Not here: finding jobs (`jobqueue.redis.browse`), asking for confirmation (jqctl) or permission (the exporter).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jobqueue import codec
from jobqueue.redis.browse import Browser, Entry

MARK_SECONDS = 7 * 86_400
"""How long a mark "cancelled" waits for its job to be claimed again; it would stay for ever if the job just finishes."""
PURGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Retried:
    """`ok`: it is in the ready list. Else `held_by` is the live job that has its unique key, or "" if the letter was gone."""

    ok: bool
    held_by: str = ""


class Operator:
    """Changes one server's queues. Everything may be repeated. Raises Unavailable (was the last change made? unknown), ServerRefused."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.server, self._keys = browser, browser.server, browser.inspector.keys

    def retry(self, letter: Entry) -> Retried:
        """A dead letter back to the ready list, with attempts and crashes forgotten, and its unique key taken again."""
        k, envelope = self._keys(letter.queue), letter.envelope
        new_id = codec.new_id()
        element = codec.rewrite(
            letter.element,
            raw_type=self.browser.inspector.raw_type(letter.queue),
            now_ms=self.browser.now_ms(),
            new_id=new_id,
            attempt=0,
            crashes=0,
            error=None,
            expires_at=0,
        )
        unique = k.unique(envelope.unique) if envelope.unique else k.pending
        keys = [k.dead, k.pending, k.stats, unique]
        answer = self.server.run(
            "dead_retry", keys, [letter.element, element, envelope.id or new_id, int(bool(envelope.unique))]
        )
        return Retried(answer[0] == b"OK", answer[1].decode("utf-8", "replace") if answer[0] == b"HELD" else "")

    def drop(self, letters: Sequence[Entry]) -> int:
        """Dead letters of one queue for good; returns how many were still there."""
        return self._drop(letters, "dropped") if letters else 0

    def edit(self, letter: Entry, payload: bytes) -> Entry | None:
        """A dead letter with another payload, in its old place; None if it was gone. Raises InvalidJob if `payload` cannot be one."""
        k, raw_type = self._keys(letter.queue), self.browser.inspector.raw_type(letter.queue)
        element = codec.with_payload(letter.element, payload, raw_type=raw_type)
        if not int(self.server.run("dead_edit", [k.dead], [letter.element, element])):
            return None
        return self.browser.entry(letter, element)

    def pause(self, queue: str, reason: str = "") -> None:
        """No worker takes a job of this queue from now on; running ones finish."""
        self.server.call("SET", self._keys(queue).paused, reason)

    def resume(self, queue: str) -> bool:
        """False if it was not paused."""
        return bool(self.server.call("DEL", self._keys(queue).paused))

    def purge(self, queue: str) -> Iterator[int]:
        """Drop all that waits or is scheduled now, telling how many went with each step. What is enqueued meanwhile stays, except for
        scheduled ones due before some that were there."""
        k = self._keys(queue)
        left_behind = bool(self.server.call("EXISTS", k.purging))
        for _ in range(2 if left_behind else 1):
            length = int(self.server.run("purge_begin", [k.purging, k.pending, k.next], []))
            while length > 0:
                gone = self._purge_page(queue, k.purging, length)
                length = length - gone if gone else int(self.server.call("LLEN", k.purging))
                yield gone
        room = int(self.server.call("ZCARD", k.scheduled))
        while room > 0 and (page := self.browser.ls(queue, "scheduled", 0, min(room, 100))):
            room -= len(page)
            yield self._drop(page, "purged")

    def cancel(self, job_id: str, queue: str | None = None) -> Literal["cancelled", "marked", "dead", "unknown"]:
        """`cancelled`: it is gone. `marked`: a worker holds or runs it; it is dropped if it is ever claimed again. `dead`: too late.
        `unknown`: not found; with `queue` given it is marked all the same (then `marked`)."""
        where = queue
        for _ in range(3):
            entry = self.browser.find(job_id, queue)
            if entry is None:
                break
            where = entry.queue
            if entry.state == "dead":
                return "dead"
            if entry.state == "processing":
                return self._mark(where, job_id)
            if self._cancel_pending(entry) if entry.state == "pending" else self._drop([entry], "cancelled"):
                return "cancelled"
        return self._mark(where, job_id) if where is not None else "unknown"

    def promote(self, entry: Entry) -> bool:
        """A scheduled job runs as soon as the ready list allows; False if it is not scheduled any more."""
        k = self._keys(entry.queue)
        return bool(self.server.run("promote_now", [k.scheduled, k.pending], [entry.element]))

    def _mark(self, queue: str, job_id: str) -> Literal["marked"]:
        key = self._keys(queue).cancelled
        self.server.together([("SADD", key, job_id), ("EXPIRE", key, MARK_SECONDS)])
        return "marked"

    def _cancel_pending(self, entry: Entry) -> bool:
        k, e = self._keys(entry.queue), entry.envelope
        keys = [entry.key, k.stats, k.unique(e.unique) if e.unique else k.stats]
        return bool(self.server.run("cancel_pending", keys, [entry.element, e.id, int(bool(e.unique))]))

    def _drop(self, entries: Sequence[Entry], counter: str) -> int:
        k = self._keys(entries[0].queue)
        keys, args = self._named(entries, [entries[0].key, k.stats])
        return int(self.server.run("drop", keys, [counter, *args]))

    def _purge_page(self, queue: str, key: str, length: int) -> int:
        """The oldest of those put aside, about a megabyte of them."""
        k, size, page = self._keys(queue), 0, list[Entry]()
        for entry in reversed(self.browser.listed(queue, key, -min(100, length), -1)):
            size += len(entry.element)
            if page and size > PURGE_BYTES:
                break
            page.append(entry)
        keys, args = self._named(page, [key, k.stats])
        return int(self.server.run("purge_page", keys, args))

    def _named(self, entries: Sequence[Entry], keys: list[str]) -> tuple[list[str], list[Any]]:
        """Keys with the unique keys behind them, and (element, index of its key or 0, id) of each."""
        args: list[Any] = []
        for entry in entries:
            unique = entry.envelope.unique
            if unique:
                keys.append(self._keys(entry.queue).unique(unique))
            args += [entry.element, len(keys) if unique else 0, entry.envelope.id]
        return keys, args
