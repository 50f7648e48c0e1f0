"""What follows from each end of a job: pure rules, checked over all ends and counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue import codec, retry
from jobqueue.handlers import TypePolicy
from jobqueue.job import Envelope, ErrorInfo
from jobqueue.outcome import (
    Aborted,
    Ack,
    Bury,
    Crashed,
    Dropped,
    Failed,
    Fault,
    Outcome,
    Rejected,
    Requeue,
    Retry,
    RetryRequested,
    Succeeded,
    TimedOut,
    UnknownType,
)
from jobqueue.retry import Dead, Finish, Front, Later, Policy, decide, delay
from jobqueue.settings import Backoff, QueueSettings
from jobqueue.settlement import MAX_TRACEBACK, bounded, dispose

FAULT = Fault("ValueError", "no")
POLICY = Policy(max_attempts=3, max_crashes=3, backoff=Backoff(base=2, factor=3, max=100, jitter="none"))
USES_AN_ATTEMPT = [Failed(FAULT), TimedOut(FAULT), RetryRequested(7, FAULT), UnknownType("t")]
backoffs = st.builds(
    Backoff,
    base=st.floats(1e-300, 1e300),
    factor=st.floats(1, 1e300),
    max=st.floats(1e-300, 1e300),
    jitter=st.sampled_from(["full", "none"]),
)


def after(outcome: Outcome, attempt: int = 0, crashes: int = 0, rnd: float = 0.5) -> retry.Decision:
    return decide(outcome, attempt=attempt, crashes=crashes, policy=POLICY, rnd=rnd)


def test_ends_without_a_second_run() -> None:
    assert after(Succeeded()) == Finish("processed")
    assert after(Dropped("expired")) == Finish("expired")
    assert after(Rejected(FAULT)) == Dead(1, 0, FAULT)


def test_a_drain_changes_nothing() -> None:
    assert after(Aborted(), attempt=2, crashes=1) == Front(2, 1, None)


@pytest.mark.parametrize("outcome", USES_AN_ATTEMPT, ids=str)
def test_an_attempt_is_used_up_and_the_last_one_buries(outcome: Outcome) -> None:
    first, second, third = (after(outcome, attempt) for attempt in range(3))
    assert isinstance(first, Later) and first.attempt == 1
    assert isinstance(second, Later) and second.attempt == 2
    assert isinstance(third, Dead) and third.attempt == 3
    assert isinstance(after(outcome, 100), Dead)


def test_waiting_grows_and_is_capped() -> None:
    assert [after(Failed(FAULT), n).seconds for n in range(2)] == [2, 6]  # type: ignore[union-attr]
    assert delay(POLICY.backoff, 50, 0.5) == 100


@pytest.mark.parametrize(
    ("asked", "got"),
    [(7, 7), (0, 0), (-5, 0), (math.nan, 0), (math.inf, retry.LONGEST_DELAY), (1e300, retry.LONGEST_DELAY)],
)
def test_a_handler_gets_the_delay_it_asks_for_within_reason(asked: float, got: float) -> None:
    assert after(RetryRequested(asked, FAULT)) == Later(got, 1, 0, FAULT)


def test_the_first_crash_is_forgiven_at_once_later_ones_wait_the_last_buries() -> None:
    assert after(Crashed(FAULT), 1, 0) == Front(1, 1, FAULT)
    assert after(Crashed(FAULT), 1, 1) == Later(2, 1, 2, FAULT)
    assert after(Crashed(FAULT), 1, 2) == Dead(1, 3, FAULT)
    only = Policy(3, 1, Backoff())
    assert decide(Crashed(FAULT), attempt=0, crashes=0, policy=only, rnd=0) == Dead(0, 1, FAULT)


@given(backoffs, st.integers(0, 2**53), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_finite_never_negative_and_within_the_cap(backoff: Backoff, n: int, rnd: float) -> None:
    assert 0 <= delay(backoff, n, rnd) <= backoff.max


@given(st.integers(0, 60), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_full_jitter_spreads_from_nothing_to_the_whole_delay(n: int, low: float, high: float) -> None:
    full, none = Backoff(jitter="full"), Backoff(jitter="none")
    assert delay(full, n, 0) == 0
    assert delay(full, n, max(low, high)) <= delay(none, n, 0)
    assert delay(full, n, min(low, high)) <= delay(full, n, max(low, high))


def test_a_job_counts_more_than_its_handler_and_that_more_than_its_queue() -> None:
    queue = QueueSettings(max_attempts=10, max_crashes=2, time_limit=60)
    said = TypePolicy("t", max_attempts=5, time_limit=30, backoff=Backoff(base=9))
    assert retry.policy_for(None, None, queue) == Policy(10, 2, Backoff())
    assert retry.policy_for(None, TypePolicy("t"), queue) == Policy(10, 2, Backoff())
    assert retry.policy_for(None, said, queue) == Policy(5, 2, Backoff(base=9))
    assert retry.policy_for(3, said, queue).max_attempts == 3
    limits = [retry.time_limit_for(None, None, queue), retry.time_limit_for(None, said, queue)]
    assert [*limits, retry.time_limit_for(1, said, queue)] == [60, 30, 1]
    assert retry.time_limit_for(None, None, QueueSettings(time_limit=None)) is None


# ---------------------------------------------------------------- settlements

ELEMENT = b'{"type":"t","id":"i","unique":"u","payload":{"n":1}}'


def settle(
    decision: retry.Decision, element: bytes = ELEMENT, raw_type: str | None = None
) -> tuple[object, Envelope | None]:
    envelope = codec.decode(element, raw_type=raw_type)
    made = dispose(decision, element, envelope, raw_type=raw_type, now_ms=1000, new_id="new")
    assert (made.element, made.job_id, made.unique) == (element, envelope.id, envelope.unique)
    written = getattr(made.disposition, "element", None)
    return made.disposition, None if written is None else codec.decode(written, raw_type=raw_type)


def test_what_is_written_for_each_decision() -> None:
    assert settle(Finish("discarded"))[0] == Ack("discarded")
    assert settle(Front(0, 0))[0] == Requeue(None), "the very bytes it had"
    disposition, envelope = settle(Later(1.2345, 2, 1, FAULT))
    assert isinstance(disposition, Retry) and disposition.delay_ms == 1235
    assert envelope is not None and (envelope.attempt, envelope.crashes, envelope.id) == (2, 1, "i")
    assert envelope.error == ErrorInfo("ValueError", "no", at=1000, causes=("ValueError: no",))
    disposition, envelope = settle(Dead(3, 0, FAULT))
    assert isinstance(disposition, Bury)
    assert envelope is not None and envelope.error is not None and envelope.error.causes == ()


def test_a_retry_at_once_is_still_a_retry() -> None:
    disposition, _ = settle(Later(0.0, 1, 0, FAULT))
    assert isinstance(disposition, Retry) and disposition.delay_ms == 1


def test_each_crash_adds_a_line_to_the_causes() -> None:
    element = ELEMENT
    for n in range(1, 4):
        made = dispose(
            Front(0, n, Fault("SIGKILL", f"crash {n}")),
            element,
            codec.decode(element),
            raw_type=None,
            now_ms=n,
            new_id="new",
        )
        assert isinstance(made.disposition, Requeue) and made.disposition.element
        element = made.disposition.element
    error = codec.decode(element).error
    assert error is not None
    assert error.causes == ("SIGKILL: crash 1", "SIGKILL: crash 2", "SIGKILL: crash 3")
    _, envelope = settle(Later(1, 1, 3, FAULT), element)
    assert envelope is not None and envelope.error is not None
    assert envelope.error.causes == error.causes, "another fault does not make them forgotten"


def test_raw_bytes_get_bookkeeping_around_them() -> None:
    disposition, envelope = settle(Dead(1, 0, FAULT), b"user,text", "notify")
    assert isinstance(disposition, Bury)
    assert codec.body(disposition.element) == b"user,text"
    assert envelope is not None and (envelope.id, envelope.type) == ("new", "notify")


def test_errors_are_bounded_and_valid_unicode() -> None:
    fault = Fault("E", "\ud800" * 5000, "first line\n" + "é" * 20_000 + "\nlast line")
    _, envelope = settle(Dead(1, 0, fault))
    assert envelope is not None and envelope.error is not None
    assert len(envelope.error.traceback.encode()) <= MAX_TRACEBACK
    assert envelope.error.traceback.endswith("last line")
    assert envelope.error.message.startswith("???")


@given(st.text(st.characters(), max_size=300), st.integers(4, 200), st.booleans())
def test_bounded_text_fits(text: str, size: int, keep_end: bool) -> None:
    cut = bounded(text, size, keep_end=keep_end)
    assert len(cut.encode()) <= size
    if len(text.encode("utf-8", "replace")) <= size:
        assert "…" not in cut or "…" in text
