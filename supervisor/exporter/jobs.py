"""What the dashboard shows of jobs: pages of them, and one in full. Read-only; runs in the thread of `desk`.

Not who may see them (`api`). Texts are cut here: what a page gets is bounded, whatever producers and handlers wrote.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import msgspec

from jobqueue import where
from jobqueue.errors import JobQueueError

if TYPE_CHECKING:
    from jobqueue.redis.browse import Browser, Entry
    from jobqueue.redis.ranked import Ranked

STATES = ("pending", "scheduled", "processing", "dead")
PREVIEW, MESSAGE = 240, 400
PAYLOAD = 256 << 10
"""Characters of a payload that are shown, and that can be edited."""
SECONDS = 1.0
LOOKS = 20_000


class NoSuchState(JobQueueError):
    """A state jobs are never in."""

    def __init__(self, state: str) -> None:
        super().__init__(f"there is no state {state!r:.40}: take one of {', '.join(STATES)}")


class NeedsQueue(JobQueueError):
    """Ready lists and processing lists are looked at one queue at a time."""

    def __init__(self) -> None:
        super().__init__("name a queue: pending and processing jobs are listed one queue at a time")


def listing(browser: Browser, state: str, queue: str, filtered: str, cursor: str, limit: int) -> dict[str, Any]:
    """One page and where the next one begins. Raises BadFilter, BadReference, NoSuchState, NeedsQueue."""
    wanted = where.parse(filtered)
    if state in ("scheduled", "dead"):
        from jobqueue.redis import ranked

        queues = [queue] if queue else browser.inspector.queues()
        page = ranked.page(browser, queues, cast("Ranked", state), wanted, cursor, limit)
        return {"jobs": [_row(entry) for entry in page.entries], "cursor": page.cursor, "looked": page.looked}
    if state not in STATES:
        raise NoSuchState(state)
    if not queue:
        raise NeedsQueue
    return _from_list(browser, state, queue, wanted, int(cursor) if cursor.isascii() and cursor.isdigit() else 0, limit)


def _from_list(
    browser: Browser, state: Any, queue: str, wanted: where.Filter, offset: int, limit: int
) -> dict[str, Any]:
    found: list[Entry] = []
    looked, deadline, now_ms = 0, time.monotonic() + SECONDS, browser.now_ms()
    while looked < LOOKS and time.monotonic() < deadline:
        page = browser.ls(queue, state, offset + looked, limit)
        for entry in page:
            looked += 1
            if wanted.holds(entry.facts(now_ms)):
                found.append(entry)
                if len(found) == limit:
                    break
        if len(page) < limit:
            return {"jobs": [_row(entry) for entry in found], "cursor": None, "looked": looked}
        if len(found) == limit:
            break
    return {"jobs": [_row(entry) for entry in found], "cursor": str(offset + looked), "looked": looked}


def details(browser: Browser, state: str, queue: str, ref: str) -> dict[str, Any] | None:
    """Everything about a dead letter or a scheduled job; None if it is gone. Raises BadReference, NoSuchState."""
    from jobqueue.redis import ranked

    if state not in ("scheduled", "dead"):
        raise NoSuchState(state)
    entry = ranked.find(browser, queue, cast("Ranked", state), ref)
    return None if entry is None else _full(entry)


def _row(entry: Entry) -> dict[str, Any]:
    e, error = entry.envelope, entry.envelope.error
    found: dict[str, Any] = {
        "queue": entry.queue, "state": entry.state, "id": e.id, "type": e.type, "attempt": e.attempt, "crashes": e.crashes,
        "payload": _text(entry.payload, PREVIEW), "enqueued_at": e.enqueued_at, "max_attempts": e.max_attempts,
    }  # fmt: skip
    if entry.score_ms is not None:
        from jobqueue.redis.ranked import reference

        found |= {"at": entry.score_ms, "ref": reference(entry)}
    if error is not None:
        found |= {"kind": error.kind, "message": error.message[:MESSAGE]}
    if entry.problem is not None:
        found |= {"kind": found.get("kind") or "Malformed", "message": found.get("message") or entry.problem[:MESSAGE]}
    return found | ({"worker": entry.worker} if entry.worker else {})


def _full(entry: Entry) -> dict[str, Any]:
    e = entry.envelope
    text = entry.payload.decode("utf-8", "replace")
    exact = text.encode() == entry.payload and len(text) <= PAYLOAD
    return _row(entry) | {
        "payload": text[:PAYLOAD],
        "json": not entry.raw and entry.problem is None,
        "editable": exact,
        "bytes": len(entry.element),
        "error": msgspec.to_builtins(e.error) if e.error else None,
        "time_limit": e.time_limit,
        "expires_at": e.expires_at,
        "unique": e.unique,
        "headers": e.headers,
    }


def _text(data: bytes, most: int) -> str:
    text = data[: most * 4].decode("utf-8", "replace")
    return text if len(text) <= most else text[: most - 1] + "…"
