"""A worker that should leave and that Redis does not let in any more: it gives up after a while, its jobs are recovered.

The case: a password was taken away before the reload that brings the new one. Workers of the new generation work; those of the old
one can never settle what they finished, and would wait for ever. An outage is not this: a server that does not answer is waited
for. Used by `supervisor.roles.worker`, around what makes its connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from jobqueue.errors import Fenced, ServerRefused
from supervisor.probation import HOPELESS

PATIENCE: Final = 5.0
S = TypeVar("S")


class Lockout(Generic[S]):
    """`connect`, until it was refused for PATIENCE seconds while `leaving`: then it raises Fenced, which ends the worker."""

    def __init__(
        self, connect: Callable[[], S], leaving: Callable[[], bool], log: Any, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect, self._leaving, self._log, self._now = connect, leaving, log, now
        self._since: float | None = None

    def __call__(self) -> S:
        try:
            made = self._connect()
        except ServerRefused as refused:
            if refused.code in HOPELESS and self._leaving():
                self._since = self._now() if self._since is None else self._since
                if self._now() - self._since >= PATIENCE:
                    self._log.warning("locked out while leaving, what it held is recovered", cause=str(refused))
                    raise Fenced("") from refused
            raise
        self._since = None
        return made
