"""Jobs that lie in order of time (dead letters, scheduled jobs) of many queues as one stream, filtered, page by page; one by its reference.

Not here: lists (`jobqueue.redis.browse`) and changes (`jobqueue.redis.operate`). Used by the exporter's dashboard. A page costs what it
looks at, not what the queues hold; a cursor names a moment and not a rank, so nothing is skipped while letters are taken away.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jobqueue.errors import JobQueueError
from jobqueue.redis.browse import ALL, Browser, Entry
from jobqueue.where import Filter

Ranked = Literal["dead", "scheduled"]
LOOKS = 20_000
SECONDS = 1.0
FIRST, MOST = 64, 512  # jobs asked for at once


class BadReference(JobQueueError):
    """A cursor or a reference that is none of ours."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"{text!r:.80} is not a cursor or a reference: take one from an answer of this exporter")


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor`: where the next page begins, None at the end. `looked`: jobs looked at for it."""

    entries: list[Entry]
    cursor: str | None
    looked: int


def reference(entry: Entry) -> str:
    """Names exactly these bytes: score and digest. Jobs may share an id, or have none."""
    return f"{entry.score_ms}-{hashlib.blake2b(entry.element, digest_size=8).hexdigest()}"


def find(browser: Browser, queue: str, state: Ranked, ref: str) -> Entry | None:
    """The job with this reference, None if it is gone. Raises BadReference."""
    score, digest = _two(ref)
    if len(digest) != 16:
        raise BadReference(ref)
    at = 0
    while found := browser.scored(queue, state, score, at, MOST, newest=False):
        for entry in found:
            if entry.score_ms != score:
                return None
            if reference(entry) == ref:
                return entry
        at += len(found)
    return None


def page(
    browser: Browser, queues: Sequence[str], state: Ranked, where: Filter = ALL, cursor: str = "", limit: int = 100
) -> Page:
    """Dead letters: the latest first; scheduled jobs: the next to run first. Stops early, with a cursor, when it has looked at 20,000 or
    for a second. Raises BadReference."""
    start, skip = _cursor(cursor)
    newest, now_ms, deadline = state == "dead", browser.now_ms(), time.monotonic() + SECONDS
    sign = -1 if newest else 1
    streams = [_stream(browser, queue, state, start, newest=newest) for queue in queues]
    merged = heapq.merge(*streams, key=lambda entry: (sign * (entry.score_ms or 0), entry.queue))
    found: list[Entry] = []
    score, same, looked = start, 0, 0
    for entry in merged:
        same = same + 1 if entry.score_ms == score else 1
        score = entry.score_ms
        if score == start and same <= skip:
            continue
        looked += 1
        if where.holds(entry.facts(now_ms)):
            found.append(entry)
        if len(found) >= limit or looked >= LOOKS or time.monotonic() > deadline:
            return Page(found, f"{score}-{same}", looked)
    return Page(found, None, looked)


def _stream(browser: Browser, queue: str, state: Ranked, start: int | None, *, newest: bool) -> Iterator[Entry]:
    same, size = 0, FIRST
    while found := browser.scored(queue, state, start, same, size, newest=newest):
        yield from found
        last = found[-1].score_ms
        alike = sum(1 for entry in found if entry.score_ms == last)
        same = same + alike if last == start else alike
        start, size = last, min(MOST, size * 2)


def _cursor(text: str) -> tuple[int | None, int]:
    if not text:
        return None, 0
    score, same = _two(text)
    if not same.isdigit():
        raise BadReference(text)
    return score, int(same)


def _two(text: str) -> tuple[int, str]:
    parts = text.rsplit("-", 1)
    try:
        score, rest = int(parts[0]), parts[1]
    except (ValueError, IndexError):
        raise BadReference(text) from None
    if not text.isascii() or abs(score) > 1 << 53:
        raise BadReference(text)
    return score, rest
