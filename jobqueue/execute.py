"""Run one handler and say how it ended: from a call to an `Outcome`, nothing else.

Not here: where the job came from, what is written about it (`jobqueue.retry`, `jobqueue.settlement`), and time limits, which the supervisor
enforces by sending a signal whose handler calls `Armed.fire`. Called by workers and by `jobqueue.testing`.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from types import TracebackType

from jobqueue.arguments import PayloadMismatch
from jobqueue.job import Job
from jobqueue.outcome import (
    Aborted,
    Discard,
    Dropped,
    Failed,
    Fault,
    JobAborted,
    JobTimeout,
    Outcome,
    Rejected,
    RetryAfter,
    RetryRequested,
    SkipRetry,
    Succeeded,
    TimedOut,
)

SUCCEEDED = Succeeded()
_forked = False  # this process was forked by a handler: it is not the worker


def _note_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_note_fork)


def this_is_the_worker() -> None:
    """Called once in a new worker, which was itself forked."""
    global _forked
    _forked = False


class Armed:
    """The number of the job that may be interrupted, 0 while none may: set from just before to just after the user's function."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def fire(self, number: int, error: BaseException) -> None:
        """From a signal handler: raise `error` inside the user's function if it is that job's which runs; else do nothing."""
        if number and self.number == number:
            self.number = 0
            raise error


def execute(
    call: Callable[[bytes, Job | None], object], payload: bytes, job: Job | None, armed: Armed, number: int
) -> Outcome:
    """Call the user's function for job `number`. `call`: `Handler.run` or `Handler.run_raw`. Never raises.

    A child that the function forked and that comes back here leaves at once: there is one worker, not two.
    """
    try:
        try:
            armed.number = number
            call(payload, job)
        finally:
            armed.number = 0
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
        armed.number = 0
        if _forked:
            os._exit(1)
        return outcome_of(error)
    return SUCCEEDED if not _forked else os._exit(1)


def outcome_of(error: BaseException) -> Outcome:
    """What an exception that left a handler means."""
    match error:
        case PayloadMismatch():
            return Rejected(Fault("PayloadMismatch", str(error)))
        case SkipRetry():
            return Rejected(fault_of(error))
        case RetryAfter():
            return RetryRequested(error.seconds, fault_of(error))
        case Discard():
            return Dropped("discarded")
        case JobTimeout():
            return TimedOut(fault_of(error))
        case JobAborted():
            return Aborted()
        case _:
            return Failed(fault_of(error))


_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the library's own frames in front of the handler's; all of it if there are no others."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_OURS):
        part = part.tb_next
    return part or trace


def fault_of(error: BaseException) -> Fault:
    """Class, message and traceback of an exception, whatever its own __str__ does."""
    try:
        message = str(error)
    except Exception as worse:  # noqa: BLE001 - a broken __str__ must not hide the failure itself
        message = f"<its __str__ raised {type(worse).__name__}>"
    try:
        trace = _users_part(error.__traceback__)
        text = "".join(traceback.format_exception(type(error), error, trace, limit=-30))
    except Exception:  # noqa: BLE001 - the same for a broken __repr__ or __cause__
        text = ""
    return Fault(type(error).__name__, message, text)
