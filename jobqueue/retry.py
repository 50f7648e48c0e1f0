"""What follows from how a job ended: `decide`, a pure function from `Outcome` to `Decision`.

Not here: bytes (`jobqueue.settlement` turns a decision into what is written) and time. Called by workers after each
job, and by the steward for jobs whose process is gone; the very same rules for both. Randomness is an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, assert_never

from jobqueue.outcome import (
    Aborted,
    Crashed,
    Dropped,
    Failed,
    Fault,
    Outcome,
    Rejected,
    RetryRequested,
    Succeeded,
    TimedOut,
    TooNew,
    UnknownType,
)
from jobqueue.settings import Backoff, QueueSettings

TOO_NEW_DELAY = 10.0
"""Seconds between two looks at a job that only a newer version understands; no attempt is used up."""

LONGEST_DELAY = 10 * 365 * 86400.0
"""Seconds; what a handler asks for beyond that is a mistake, and would leave the range of a ZSET's exact scores."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_attempts`: runs a job may use up before it is buried. `max_crashes`: processes it may kill."""

    max_attempts: int
    max_crashes: int
    backoff: Backoff


class Said(Protocol):
    """What a handler's decorator said (a Handler, or its TypePolicy); None: nothing."""

    @property
    def max_attempts(self) -> int | None: ...
    @property
    def time_limit(self) -> float | None: ...
    @property
    def backoff(self) -> Backoff | None: ...


def policy_for(max_attempts: int | None, said: Said | None, queue: QueueSettings) -> Policy:
    """What holds for one job: what its envelope says (`max_attempts`), else its handler, else its queue."""
    if said is None:
        return Policy(max_attempts or queue.max_attempts, queue.max_crashes, queue.backoff)
    return Policy(
        max_attempts or said.max_attempts or queue.max_attempts,
        queue.max_crashes,
        said.backoff or queue.backoff,
    )


def time_limit_for(time_limit: float | None, said: Said | None, queue: QueueSettings) -> float | None:
    """The soft limit of one job in seconds, in the same order: its envelope, its handler, its queue; None: no limit."""
    limit = time_limit or (said.time_limit if said is not None else None) or queue.time_limit
    return None if limit is None else min(limit, LONGEST_DELAY)  # beyond that a row of the scoreboard cannot hold it


@dataclass(frozen=True, slots=True)
class Finish:
    """It leaves for good, counted under `counter`."""

    counter: Literal["processed", "discarded", "expired", "cancelled"] = "processed"


@dataclass(frozen=True, slots=True)
class Later:
    """It runs again in `seconds`. `attempt`, `crashes`: the new counts. `fault` is recorded in it."""

    seconds: float
    attempt: int
    crashes: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Dead:
    """It goes to the dead letters, with the fault."""

    attempt: int
    crashes: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Front:
    """It goes back to the front of its queue, now. Without a fault nothing about it changes."""

    attempt: int
    crashes: int
    fault: Fault | None = None


Decision: TypeAlias = Finish | Later | Dead | Front


def decide(outcome: Outcome, *, attempt: int, crashes: int, policy: Policy, rnd: float) -> Decision:
    """What becomes of a job that had used up `attempt` attempts and killed `crashes` processes before this end. `rnd`
    in [0, 1).

    Failing, timing out, asking for a retry and having no handler use up an attempt; the last one buries. A crash uses
    up none, but the first one is forgiven at once (front of the queue), later ones wait, and `max_crashes` of them
    bury. A drain changes nothing.
    """
    match outcome:
        case Succeeded():
            return Finish()
        case Dropped(counter):
            return Finish(counter)
        case Aborted():
            return Front(attempt, crashes)
        case Rejected(fault):
            return Dead(attempt + 1, crashes, fault)
        case Failed(fault) | TimedOut(fault):
            return _used_up(attempt + 1, crashes, policy, fault, delay(policy.backoff, attempt, rnd))
        case RetryRequested(seconds, fault):
            return _used_up(attempt + 1, crashes, policy, fault, _asked(seconds))
        case UnknownType(type_):
            fault = Fault("UnknownType", f"no handler is registered for type {type_!r}")
            return _used_up(attempt + 1, crashes, policy, fault, delay(policy.backoff, attempt, rnd))
        case TooNew(version):
            return Later(TOO_NEW_DELAY, attempt, crashes, Fault("TooNew", f"its envelope has version {version}"))
        case Crashed(fault):
            return _crashed(attempt, crashes + 1, policy, fault, rnd)
        case _:
            assert_never(outcome)


def delay(backoff: Backoff, n: int, rnd: float) -> float:
    """Seconds before try number n + 2: `min(max, base * factor ** n)`, times `rnd` with full jitter (so anywhere from 0
    to that).

    Full jitter spreads a herd best: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    try:
        cap = min(backoff.max, backoff.base * backoff.factor**n)
    except OverflowError:
        cap = backoff.max
    return cap if backoff.jitter == "none" else cap * rnd


def _used_up(attempt: int, crashes: int, policy: Policy, fault: Fault, seconds: float) -> Decision:
    if attempt >= policy.max_attempts:
        return Dead(attempt, crashes, fault)
    return Later(seconds, attempt, crashes, fault)


def _crashed(attempt: int, crashes: int, policy: Policy, fault: Fault, rnd: float) -> Decision:
    if crashes >= policy.max_crashes:
        return Dead(attempt, crashes, fault)
    if crashes == 1:
        return Front(attempt, crashes, fault)
    return Later(delay(policy.backoff, crashes - 2, rnd), attempt, crashes, fault)


def _asked(seconds: float) -> float:
    """What a handler asked for, kept between 0 and LONGEST_DELAY; not a number means now."""
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_DELAY)
