"""Identical lines: a few pass, the rest are counted, the number is told once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.logflood import FREE, MOST, WINDOW, Flood


def write(flood: Flood, now: float, text: str) -> tuple[bool, int]:
    """Whether it passed, and how many were told to have been held back."""
    told = sum(held.times for held in flood.over(now))
    return flood.passes(now, "info", "worker", text, text), told


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from("abc")), max_size=300))
def test_every_line_is_written_or_counted(steps: list[tuple[float, str]]) -> None:
    flood, now, written, told = Flood(), 1000.0, 0, 0
    for seconds, text in steps:
        now += seconds
        passed, held = write(flood, now, text)
        written, told = written + passed, told + held
    told += sum(held.times for held in flood.over(now + WINDOW))
    assert written + told == len(steps)


def test_only_a_flood_is_held_back() -> None:
    flood = Flood()
    assert [write(flood, 1000.0, "x")[0] for _ in range(FREE + 5)] == [True] * FREE + [False] * 5
    assert write(flood, 1001.0, "y") == (True, 0)
    assert write(flood, 1000.0 + WINDOW, "x") == (True, 5)


def test_lines_that_differ_are_never_held_back_and_the_table_does_not_grow() -> None:
    flood = Flood()
    assert all(write(flood, 1000.0, str(n))[0] for n in range(5 * MOST))
    assert len(flood._seen) == MOST


def test_a_clock_set_back_holds_nothing_back_for_ever() -> None:
    flood = Flood()
    for _ in range(FREE + 1):
        write(flood, 1000.0, "x")
    assert write(flood, 10.0, "x") == (True, 1)
