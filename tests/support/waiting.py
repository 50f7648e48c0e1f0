"""Waiting for a condition with a deadline: what tests do in place of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 20.0, *, every: float = 0.01, what: str = "") -> T:
    """The first truthy result of `predicate`. Raises AssertionError after `timeout` seconds, with the last result.

    An AssertionError raised by the predicate counts as "not yet", so that it may hold plain asserts.
    """
    deadline = time.monotonic() + timeout
    while True:
        failure: AssertionError | None = None
        result: T | None = None
        try:
            result = predicate()
        except AssertionError as error:
            failure = error
        if result:
            return result
        if time.monotonic() > deadline:
            waited = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"{waited} did not come true in {timeout:g} s; last: {failure or result!r}")
        time.sleep(every)
