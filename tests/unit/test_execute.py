"""From a call to an outcome: what each way to leave a handler means, and what is told of it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from jobqueue.execute import Armed, execute
from jobqueue.job import Job
from jobqueue.outcome import (
    Aborted,
    Discard,
    Dropped,
    Failed,
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


def run(function: Callable[[], object], armed: Armed | None = None) -> Outcome:
    def call(payload: bytes, job: Job | None) -> object:
        return function()

    return execute(call, b"{}", None, armed or Armed(), 7)


def raising(error: BaseException) -> Callable[[], object]:
    def function() -> object:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), Failed),
        (SystemExit(3), Failed),
        (KeyboardInterrupt(), Failed),
        (SkipRetry("x"), Rejected),
        (RetryAfter(3), RetryRequested),
        (Discard("x"), Dropped),
        (JobTimeout("x"), TimedOut),
        (JobAborted("x"), Aborted),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_every_way_to_leave_a_handler_is_an_outcome(error: BaseException, kind: type) -> None:
    assert isinstance(run(raising(error)), kind)
    assert isinstance(run(lambda: None), Succeeded)


def test_an_error_that_cannot_be_printed_is_told_all_the_same() -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    outcome = run(raising(Shy()))
    assert isinstance(outcome, Failed)
    assert outcome.fault.kind == "Shy"
    assert "RuntimeError" in outcome.fault.message


def test_a_traceback_begins_in_the_users_code() -> None:
    outcome = run(raising(ValueError("deep")))
    assert isinstance(outcome, Failed)
    lines = outcome.fault.traceback.splitlines()
    assert lines[0].startswith("Traceback")
    assert __file__ in lines[1]
    assert "execute.py" not in outcome.fault.traceback.replace(os.path.basename(__file__), "")
    assert lines[-1] == "ValueError: deep"


def test_a_job_can_be_interrupted_only_while_it_runs() -> None:
    armed = Armed()
    armed.fire(7, JobTimeout("nothing runs"))

    def function() -> None:
        armed.fire(6, JobTimeout("another job's"))
        armed.fire(7, JobTimeout("this one's"))

    outcome = run(function, armed)
    assert isinstance(outcome, TimedOut)
    assert outcome.fault.message == "this one's"
    armed.fire(7, JobTimeout("too late"))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_the_handler_forked_never_comes_back_as_a_second_worker() -> None:
    def function() -> None:
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 1

    assert isinstance(run(function), Succeeded)
