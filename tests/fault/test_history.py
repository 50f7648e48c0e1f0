"""The checker finds what is planted: a judge that acquits everybody would make every other test here worthless."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.fault.history import Blow, Content, History, Run, judge

ONE = Run("a", 10, 1.0, 1.1, "end")
CUT_SHORT = Run("a", 10, 1.0, 0.0, "")
AGAIN = Run("a", 11, 2.0, 2.1, "end")


def history(*runs: Run, **changes: object) -> History:
    """One job named a, which is done."""
    sound = History(Counter(a=1), Counter(), {"a": "done"}, runs, (), Content(finals={"processed": 1}))
    return replace(sound, **changes)  # type: ignore[arg-type]


def test_a_job_that_ran_once_and_is_done_is_sound() -> None:
    assert judge(history(ONE)).sound


def test_a_job_that_never_ran_and_waits_nowhere_is_lost() -> None:
    assert judge(history(content=Content())).lost


def test_of_equal_payloads_the_missing_are_counted() -> None:
    assert judge(history(ONE, accepted=Counter(a=2))).lost
    assert judge(history(ONE, AGAIN, accepted=Counter(a=2), content=Content(finals={"processed": 2}))).sound


def test_a_second_run_needs_a_fault_that_hit_the_first_ones_process_while_it_ran() -> None:
    assert judge(history(CUT_SHORT, AGAIN)).duplicated
    assert judge(history(CUT_SHORT, AGAIN, blows=[Blow("kill", 99, 1.05)])).duplicated
    assert judge(history(CUT_SHORT, AGAIN, blows=[Blow("kill", 10, 0.9)])).duplicated
    excused = judge(history(CUT_SHORT, AGAIN, blows=[Blow("kill", 10, 1.05)]))
    assert excused.sound
    assert excused.explained == ("a: kill",)


def test_a_run_that_was_over_for_long_is_no_excuse_unless_redis_was_away_meanwhile() -> None:
    late = [Blow("kill", 10, 5.0)]
    assert judge(history(ONE, replace(AGAIN, began=6.0, ended=6.1), blows=late)).duplicated
    assert judge(history(ONE, replace(AGAIN, began=6.0, ended=6.1), blows=late, outages=[(1.0, 5.0)])).sound


def test_a_planned_failure_and_a_planned_crash_are_followed_by_another_run() -> None:
    assert judge(history(replace(ONE, end="fail"), AGAIN)).sound
    assert judge(history(replace(ONE, end="crash"), AGAIN)).sound
    assert judge(history(replace(ONE, end="crash"), AGAIN, replace(AGAIN, pid=12, began=3.0))).duplicated


def test_what_nobody_enqueued_is_unexpected() -> None:
    assert judge(history(ONE, Run("stranger", 10, 1.2, 1.3, "end"))).unexpected
    assert judge(history(ONE, content=Content(dead=Counter(a=1), finals={"dead": 1}))).unexpected, (
        "dead without a reason"
    )
    assert judge(history(ONE, ends={"a": "dead"})).unexpected, "done, it had to be dead"


def test_more_ends_than_jobs_are_found_although_only_one_run_shows() -> None:
    assert judge(history(ONE, content=Content(finals={"processed": 2}))).finalised_twice
    assert judge(history(ONE, content=Content(waiting=Counter(a=1), finals={"processed": 1}))).finalised_twice


def test_a_doubtful_enqueue_may_be_in_or_not_but_not_twice() -> None:
    doubt = {"accepted": Counter(), "doubtful": Counter(a=1)}
    assert judge(history(**doubt, content=Content())).sound
    assert judge(history(ONE, **doubt)).sound
    assert not judge(history(ONE, AGAIN, **doubt, content=Content(finals={"processed": 2}))).sound


def test_what_is_left_behind_is_a_leak() -> None:
    for left in ({"held": {"next": 1}}, {"stray": {"workers": "w"}}, {"unique": {"k": "id"}}):
        assert judge(history(ONE, content=Content(finals={"processed": 1}, **left))).leaked  # type: ignore[arg-type]
