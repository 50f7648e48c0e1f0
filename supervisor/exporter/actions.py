"""What an operator may do from the dashboard: each action from its JSON body to what it did. Runs in the thread of `desk`.

Not permission and not the log (`api`, the only caller), and not how it is done (`jobqueue.redis.operate`). A request does a
bounded part of a large action and says where to go on: a page that is closed stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from jobqueue import where
from jobqueue.errors import JobQueueError

if TYPE_CHECKING:
    from jobqueue.redis.browse import Entry
    from jobqueue.redis.operate import Operator

PART = 200
"""Dead letters that one request changes."""
NAMED = 20
"""Ids that are logged of one request."""
Short = Annotated[str, msgspec.Meta(max_length=1000)]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request; each action looks at its own fields. `letters`: (queue, reference) pairs; or `all` that fit `where`,
    of `queue` or of all queues, from `cursor` on. `by`: who asks, for the log."""

    by: Annotated[str, msgspec.Meta(max_length=100)] = ""
    queue: Short = ""
    reason: Short = ""
    id: Short = ""
    ref: Short = ""
    letters: Annotated[list[tuple[Short, Short]], msgspec.Meta(max_length=PART)] = []
    all: bool = False
    where: Short = ""
    cursor: Short = ""
    payload: str = ""
    retry: bool = False


Done = dict[str, Any]
"""What is answered; what is logged of it are `jobs`, `ids` and `result`."""


class Incomplete(JobQueueError):
    """A field that this action needs is missing."""

    def __init__(self, needs: str) -> None:
        super().__init__(f"this action needs {needs}")


def retry(operator: Operator, order: Order) -> Done:
    """Dead letters back into their queues."""
    return _each(operator, order, _retry_one)


def drop(operator: Operator, order: Order) -> Done:
    """Dead letters away for good."""
    return _each(operator, order, lambda operator, entry: None if operator.drop([entry]) else "")


def _retry_one(operator: Operator, entry: Entry) -> str | None:
    answer = operator.retry(entry)
    if answer.ok:
        return None
    return f"its unique key {entry.envelope.unique!r} is held by job {answer.held_by}" if answer.held_by else ""


def _each(operator: Operator, order: Order, act: Callable[[Operator, Entry], str | None]) -> Done:
    """`act` answers None if it did it, else why not ("": the letter was gone)."""
    chosen, cursor, gone = _chosen(operator, order)
    ids, kept = [], []
    for entry in chosen:
        why_not = act(operator, entry)
        if why_not is None:
            ids.append(entry.envelope.id)
        elif why_not:
            kept.append({"id": entry.envelope.id, "why": why_not})
        else:
            gone += 1
    return {"jobs": len(ids), "ids": ids[:NAMED], "gone": gone, "kept": kept, "cursor": cursor}


def _chosen(operator: Operator, order: Order) -> tuple[list[Entry], str | None, int]:
    from jobqueue.redis import ranked

    browser = operator.browser
    if order.all:
        queues = [order.queue] if order.queue else browser.inspector.queues()
        page = ranked.page(browser, queues, "dead", where.parse(order.where), order.cursor, PART)
        return page.entries, page.cursor, 0
    if not order.letters:
        raise Incomplete("`letters`, or `all` with `where`")
    found = [ranked.find(browser, queue, "dead", ref) for queue, ref in order.letters]
    there = [entry for entry in found if entry is not None]
    return there, None, len(found) - len(there)


def edit(operator: Operator, order: Order) -> Done:
    """Another payload for one dead letter; with `retry` it is retried then."""
    from jobqueue.redis import ranked

    if not (order.queue and order.ref):
        raise Incomplete("`queue`, `ref` and `payload`")
    entry = ranked.find(operator.browser, order.queue, "dead", order.ref)
    edited = None if entry is None else operator.edit(entry, order.payload.encode("utf-8", "surrogatepass"))
    if edited is None:
        return {"jobs": 0, "ids": [], "gone": 1}
    done: Done = {"jobs": 1, "ids": [edited.envelope.id], "gone": 0, "ref": ranked.reference(edited), "retried": False}
    if order.retry:
        why_not = _retry_one(operator, edited)
        done |= {"retried": why_not is None, "kept": [{"id": edited.envelope.id, "why": why_not}] if why_not else []}
    return done


def pause(operator: Operator, order: Order) -> Done:
    _need_queue(operator, order)
    operator.pause(order.queue, order.reason)
    return {"result": "paused"}


def resume(operator: Operator, order: Order) -> Done:
    _need_queue(operator, order)
    return {"result": "resumed" if operator.resume(order.queue) else "was not paused"}


def cancel(operator: Operator, order: Order) -> Done:
    """A job that waits or is scheduled, by its id; one that runs is marked and not stopped."""
    if not (order.id and order.queue):
        raise Incomplete("`id` and `queue`")
    _need_queue(operator, order)
    return {"result": operator.cancel(order.id, order.queue), "ids": [order.id]}


def promote(operator: Operator, order: Order) -> Done:
    """A scheduled job runs now."""
    from jobqueue.redis import ranked

    if not (order.queue and order.ref):
        raise Incomplete("`queue` and `ref`")
    entry = ranked.find(operator.browser, order.queue, "scheduled", order.ref)
    done = entry is not None and operator.promote(entry)
    return {"jobs": int(done), "ids": [entry.envelope.id] if entry else [], "gone": int(not done)}


def _need_queue(operator: Operator, order: Order) -> None:
    # Else a typing error would leave a key behind for a queue that never was.
    if order.queue not in operator.browser.inspector.queues():
        raise Incomplete("`queue`, one that is known")


ACTIONS: Mapping[str, Callable[[Operator, Order], Done]] = {
    "retry": retry, "drop": drop, "edit": edit, "pause": pause, "resume": resume, "cancel": cancel, "promote": promote,
}  # fmt: skip
