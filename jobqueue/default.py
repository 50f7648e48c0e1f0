"""The queue that `some_handler.enqueue(...)` goes to: one per process, set by hand or by the first `JobQueue` made.

Apart from `jobqueue.client`, so that importing handlers costs no client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from jobqueue.errors import JobQueueError


class Handle(Protocol):
    """What enqueueing returns. `duplicate`: a live job held the unique key (or the id) already, and `id` is that one's."""

    @property
    def id(self) -> str: ...

    @property
    def duplicate(self) -> bool: ...


class Producer(Protocol):
    """Anything with JobQueue's `enqueue`."""

    def enqueue(self, type: str, payload: Mapping[str, Any], /, **options: Any) -> Handle:  # noqa: A002
        """Enqueue one job; options as in `JobQueue.enqueue`."""
        ...


class NoDefaultQueue(JobQueueError):
    """A handler was asked to enqueue before any queue was made."""

    def __init__(self, type_: str) -> None:
        self.type = type_
        super().__init__(
            f"cannot enqueue {type_!r}: this process has no default queue yet. "
            "Make one with JobQueue(url), or call jobqueue.client.set_default(queue)."
        )


_default: Any = None


def set_default(queue: Any) -> Any:
    """Make `queue` the one handlers enqueue to (None: no queue); returns the one before it."""
    global _default
    before, _default = _default, queue
    return before


def offer(queue: Any) -> None:
    """Make `queue` the default unless there is one: what constructing a JobQueue does."""
    if _default is None:
        set_default(queue)


def default_for(type_: str) -> Any:
    """The default queue. Raises NoDefaultQueue, naming the handler's type."""
    if _default is None:
        raise NoDefaultQueue(type_)
    return _default
