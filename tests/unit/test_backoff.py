"""Backoff: waits grow, are bounded, and are facts rather than sleeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.backoff import MAX_SECONDS, Backoff, delay


@given(st.integers(min_value=-3, max_value=10**9))
def test_delay_is_bounded_and_never_shrinks(failures: int) -> None:
    assert 0.0 <= delay(failures) <= delay(failures + 1) <= MAX_SECONDS


def test_first_waits() -> None:
    assert [delay(n) for n in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]


def test_a_failure_is_waited_out_from_the_moment_it_happened() -> None:
    backoff = Backoff().failed(100.0).failed(200.0)
    assert backoff.failures == 2
    assert backoff.waiting(200.1)
    assert not backoff.waiting(200.2)


def test_free_failures_cost_nothing() -> None:
    backoff = Backoff().failed(5.0, free=1)
    assert backoff == Backoff(1, 5.0)
    assert backoff.failed(5.0, free=1).waiting(5.05)


@given(st.lists(st.floats(min_value=0, max_value=10), max_size=200))
def test_a_crash_loop_is_rate_limited(lives: list[float]) -> None:
    """However soon it fails, in any minute a place is tried only a few times."""
    now, backoff, tries = 0.0, Backoff(), []
    for life in lives:
        now = max(now, backoff.not_before)
        tries.append(now)
        now += life
        backoff = backoff.failed(now)
    assert all(sum(start <= at < start + 60 for at in tries[9:]) <= 3 for start in tries[9:])
