"""How a job can end (`Outcome`) and what is then done with it in the queue (`Disposition`): two closed sets of data.

A handler's end becomes an `Outcome` before anything is written anywhere; `jobqueue.retry.decide` turns it into a `Disposition`; only
`settle` and `recover` carry a disposition out. No I/O here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

# ---------------------------------------------------------------- what a handler may raise to steer its job


class SkipRetry(Exception):
    """Bury the job at once, whatever attempts are left."""


class Discard(Exception):
    """Drop the job silently: neither done nor dead."""


class RetryAfter(Exception):
    """Try again after `seconds`; counts as an attempt."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        self.seconds = float(seconds)
        super().__init__(reason or f"retry after {seconds} s")


class JobTimeout(BaseException):
    """Raised inside a handler when its soft time limit has passed. A BaseException, so `except Exception` does not swallow it."""


class JobAborted(BaseException):
    """Raised inside a handler when the drain has run out of time; the job goes back to the front, no attempt is used up."""


# ---------------------------------------------------------------- outcomes


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job did not succeed, as data. `kind`: exception class or cause word; `traceback` may be empty."""

    kind: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised an exception that says nothing about retrying."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """The handler raised RetryAfter."""

    seconds: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Rejected:
    """It can never succeed: SkipRetry, a payload that does not fit the handler, bytes that cannot be decoded."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Dropped:
    """Leaves without a result, on purpose. `counter` names the total it is counted under."""

    counter: Literal["discarded", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class UnknownType:
    """No handler is registered for its type here (perhaps the next deploy brings it)."""

    type: str


@dataclass(frozen=True, slots=True)
class TooNew:
    """Its envelope is of a later version than this process understands: left alone until it is upgraded."""

    version: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Its time limit passed: JobTimeout left the handler, or the process was killed at the hard limit (or for its memory)."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process died while it ran this job."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Aborted:
    """Stopped by a drain, lost with its host, or never started: nobody is to blame."""


Outcome: TypeAlias = (
    Succeeded | Failed | RetryRequested | Rejected | Dropped | UnknownType | TooNew | TimedOut | Crashed | Aborted
)


# ---------------------------------------------------------------- dispositions


@dataclass(frozen=True, slots=True)
class Ack:
    """Final: it leaves. `counter` is the field of the queue's totals that grows by one."""

    counter: Literal["processed", "discarded", "expired", "cancelled"] = "processed"


@dataclass(frozen=True, slots=True)
class Retry:
    """To `scheduled`, due `delay_ms` from now by the server's clock, as `element` (the new envelope's bytes)."""

    delay_ms: int
    element: bytes


@dataclass(frozen=True, slots=True)
class Bury:
    """Final: to `dead`, as `element`."""

    element: bytes


@dataclass(frozen=True, slots=True)
class Requeue:
    """To the front of its queue. `element` None means: the very bytes it had."""

    element: bytes | None = None


Disposition: TypeAlias = Ack | Retry | Bury | Requeue
