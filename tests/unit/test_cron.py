"""When an entry ticks: expressions, time zones, summer time, and what is due after ticks were missed."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue import cron
from jobqueue.cron import LATE_MS, BadSchedule, Due, Schedule, UnknownZone, due

BERLIN = "Europe/Berlin"
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
YEAR = 366 * 86_400_000


def ms(text: str, timezone: str = "UTC") -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=cron.zone(timezone))).timestamp() * 1000)


def ticks(schedule: Schedule, since: str, n: int) -> list[str]:
    found, at = [], ms(since, schedule.timezone)
    for _ in range(n):
        following = schedule.after(at)
        assert following is not None
        found.append(schedule.local(following).isoformat())
        at = following
    return found


# ---------------------------------------------------------------- what is a schedule


def test_white_space_and_nicknames() -> None:
    assert cron.expression("  0\t3 * *  * ") == "0 3 * * *"
    assert cron.expression("@Daily") == "0 0 * * *"
    assert cron.expression("*/5 * * * * *") == "*/5 * * * * *"
    assert cron.expression("0 9 L * mon-fri") == "0 9 L * mon-fri"


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "@never", "@reboot", "x * * * *", "0 0 30 2 *"])  # fmt: skip
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSchedule):
        cron.expression(text)


@pytest.mark.parametrize("name", ["", "Berlin", "Europe", "../UTC", "/etc/localtime", "Europe/Berln", "UTC+1", "\x00"])
def test_names_that_are_no_time_zone(name: str) -> None:
    with pytest.raises(UnknownZone):
        cron.zone(name)


# ---------------------------------------------------------------- when it ticks


def test_seconds_minutes_and_days() -> None:
    assert ticks(Schedule("*/20 * * * * *"), "2026-01-01T00:00:05", 3) == [
        "2026-01-01T00:00:20+00:00",
        "2026-01-01T00:00:40+00:00",
        "2026-01-01T00:01:00+00:00",
    ]
    assert ticks(Schedule("0 3 29 2 *"), "2026-01-01", 1) == ["2028-02-29T03:00:00+00:00"]
    assert Schedule("* * * * * *").after(START + 999) == START + 1000
    assert Schedule("* * * * * *").after(START) == START + 1000, "later, not at"


def test_a_time_that_summer_time_leaves_out_ticks_when_the_gap_ends_and_once() -> None:
    """29 March 2026: after 01:59:59 comes 03:00:00."""
    assert ticks(Schedule("30 2 * * *", BERLIN), "2026-03-28T12:00", 3) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]
    assert ticks(Schedule("10,40 2 * * *", BERLIN), "2026-03-29T01:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:10:00+02:00",
    ], "both of them at the same moment are one"


def test_a_time_that_comes_twice_when_summer_time_ends_ticks_once() -> None:
    """25 October 2026: after 02:59:59 comes 02:00:00 again."""
    schedule = Schedule("30 2 * * *", BERLIN)
    assert ticks(schedule, "2026-10-24T12:00", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    between = ms("2026-10-25T02:10:00+01:00")  # the second ten past two, after the only tick
    assert schedule.after(between) == ms("2026-10-26T02:30:00+01:00")
    assert schedule.latest(ms("2026-10-25T00:00+02:00"), between) == ms("2026-10-25T02:30:00+02:00")


def test_what_ticks_every_few_minutes_does_not_care_for_summer_time() -> None:
    at = ms("2026-10-25T01:45:00+02:00")
    for schedule in (Schedule("*/15 * * * *", BERLIN), Schedule("0 */15 * * * *", BERLIN)):
        found = [at]
        for _ in range(12):
            found.append(schedule.after(found[-1]) or 0)
        assert {b - a for a, b in itertools.pairwise(found)} == {15 * 60_000}


def test_a_zone_is_a_place_on_the_clock() -> None:
    assert Schedule("0 3 * * *", "Asia/Kolkata").after(START) == ms("2026-01-01T21:30")
    assert Schedule("0 3 * * *").after(START) == ms("2026-01-01T03:00")


# ---------------------------------------------------------------- properties

FIELDS = st.one_of(
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15,45 1-3 * * *", "0 0 1 * *", "59 23 L * *",
                     "0 12 * * MON", "0 0 29 2 *", "*/10 * * * * *", "30 30 2 * * *", "0 0 13 * FRI"]),
    st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23)),
)  # fmt: skip
ZONES = st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana"])
SCHEDULES = st.builds(Schedule, FIELDS, ZONES)
CHANGES = [
    at
    for at in range(START, START + YEAR, 3_600_000)
    for zone in (BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana")
    if Schedule("* * * * *", zone).local(at).utcoffset()
    != Schedule("* * * * *", zone).local(at + 3_600_000).utcoffset()
]
MOMENTS = st.one_of(
    st.integers(START, START + YEAR),
    st.builds(int.__add__, st.sampled_from(CHANGES), st.integers(-30 * 3_600_000, 6 * 3_600_000)),
)


@given(SCHEDULES, MOMENTS)
def test_the_next_tick_lies_ahead_and_is_the_next_for_all_moments_between(schedule: Schedule, at: int) -> None:
    tick = schedule.after(at)
    assert tick is not None
    assert tick > at
    assert tick % 1000 == 0
    assert schedule.after((at + tick) // 2) == tick or (at + tick) // 2 == tick
    assert schedule.after(tick - 1) == tick


@given(SCHEDULES, MOMENTS, st.integers(0, 40))
def test_the_latest_tick_is_the_one_counting_finds(schedule: Schedule, after: int, n: int) -> None:
    upto, found = after, None
    for _ in range(n):
        found = upto = schedule.after(upto) or 0
    assert schedule.latest(after, upto) == found
    following = schedule.after(upto) or 0
    assert schedule.latest(after, following - 1) == found


def test_the_latest_of_millions_is_found_at_once() -> None:
    assert Schedule("* * * * * *").latest(0, START + 500) == START
    assert Schedule("0 3 * * *", BERLIN).latest(0, START) == ms("2025-12-31T03:00", BERLIN)


@given(st.integers(0, 59), st.integers(0, 23), ZONES, MOMENTS)
def test_each_day_has_the_daily_tick_once(minute: int, hour: int, zone: str, at: int) -> None:
    """In every zone, on every day, also on those on which the clock is changed."""
    schedule = Schedule(f"{minute} {hour} * * *", zone)
    days = []
    for _ in range(5):
        at = schedule.after(at) or 0
        days.append(schedule.local(at).date())
    assert days == [days[0] + timedelta(days=n) for n in range(5)]


@given(SCHEDULES, MOMENTS)
def test_a_tick_is_a_time_that_the_fields_name(schedule: Schedule, at: int) -> None:
    """Read off the clock of the place, but for times that a change of the clock leaves out."""
    tick = schedule.after(at) or 0
    local = schedule.local(tick)
    if schedule.timezone != "UTC" and local.utcoffset() != schedule.local(tick - 3 * 3_600_000).utcoffset():
        return
    fields = schedule.fields.split()
    second, minute, hour = fields[:3] if len(fields) == 6 else ("0", *fields[:2])
    assert matches(second, local.second) and matches(minute, local.minute) and matches(hour, local.hour), local


def matches(field: str, number: int) -> bool:
    """A reader of its own for what FIELDS holds."""
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = (span if span != "*" else "0-59").partition("-")
        if int(low) <= number <= int(high or low) and (number - int(low)) % int(step or 1) == 0:
            return True
    return False


# ---------------------------------------------------------------- what is due

NIGHTLY = Schedule("0 3 * * *")


def test_nothing_is_due_between_ticks() -> None:
    assert due(NIGHTLY, ms("2026-01-02T03:00"), ms("2026-01-02T12:00"), "last") == Due(None, ms("2026-01-03T03:00"))


def test_a_tick_is_due_at_its_time() -> None:
    now = ms("2026-01-03T03:00")
    assert due(NIGHTLY, ms("2026-01-02T03:00"), now - 1, "last") == Due(None, now)
    assert due(NIGHTLY, ms("2026-01-02T03:00"), now, "last") == Due(now, ms("2026-01-04T03:00"))


def test_of_many_that_were_missed_the_last_stands_for_all() -> None:
    """jqd was down for three days."""
    found = due(NIGHTLY, ms("2026-01-02T03:00"), ms("2026-01-05T12:00"), "last")
    assert found == Due(ms("2026-01-05T03:00"), ms("2026-01-06T03:00"))


def test_who_does_not_catch_up_forgives_a_minute() -> None:
    """A restart or a failover at three o'clock must not cost the night."""
    tick, last = ms("2026-01-05T03:00"), ms("2026-01-02T03:00")
    assert due(NIGHTLY, last, tick + LATE_MS, "none").tick == tick
    assert due(NIGHTLY, last, tick + LATE_MS + 1, "none") == Due(None, ms("2026-01-06T03:00"))


def test_after_the_clock_was_set_back_it_waits_for_the_time_after_the_last_tick() -> None:
    last = ms("2026-01-05T03:00")
    assert due(NIGHTLY, last, last - 3_600_000, "last") == Due(None, ms("2026-01-06T03:00"))


def test_times_are_told_on_the_clock_of_the_place() -> None:
    assert Schedule("0 3 * * *", BERLIN).local(ms("2026-07-01T01:00")) == datetime(
        2026, 7, 1, 3, tzinfo=ZoneInfo(BERLIN)
    )
    assert str(Schedule("0 3 * * *", BERLIN)) == "0 3 * * * Europe/Berlin"
