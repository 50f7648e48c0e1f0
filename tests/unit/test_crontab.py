"""Stewards of several hosts and their cron entries, through random clocks, deaths, outages and full queues: no tick twice,
none before its time, none skipped but for a later one that stands for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobqueue import codec
from jobqueue.cron import LATE_MS, Schedule
from jobqueue.errors import ServerRefused, Unavailable
from jobqueue.handlers import TypePolicy
from jobqueue.memory import MemoryQueue
from jobqueue.port import AHEAD_MS, NewJob, Ticked
from jobqueue.settings import CronEntry, QueueSettings
from supervisor.crontab import AGAIN_MS, REMIND, Crontab
from supervisor.stewardship import Clock

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
EACH_10_S, HOURLY = Schedule("*/10 * * * * *"), Schedule("0 * * * *")


class Log:
    """Remembers what was said above debug."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def debug(self, event: str, **fields: object) -> None: ...

    def info(self, event: str, **fields: object) -> None:
        self.said.append(event)

    warning = info


class Port(MemoryQueue):
    """A store that can fail: before a verb is carried out, or after it, when its answer is on the way."""

    fails: Literal["", "before", "after", "OOM"] = ""

    def tick(self, name: str, schedule: str, tick_ms: int, job: NewJob) -> Ticked:
        if self.fails == "before":
            raise Unavailable("tick", "gone")
        if self.fails == "OOM":
            raise ServerRefused("OOM", "command not allowed")
        answer = super().tick(name, schedule, tick_ms, job)
        if self.fails == "after":
            raise Unavailable("tick", "gone")
        return answer


class World:
    """A server's clock and everybody's monotonic one, a store, and what was pushed to it (kept when it was run)."""

    def __init__(self, **entry: Any) -> None:
        self.server_ms, self.now = float(START), 1000.0
        self.port = Port({}, lambda: int(self.server_ms))
        self.log, self.late = Log(), list[float]()
        self.entry = CronEntry(**{"schedule": EACH_10_S.fields, "type": "report", **entry})
        self.pushed: list[int] = []

    def steward(self, entry: CronEntry | None = None, queues: dict[str, QueueSettings] | None = None) -> Crontab:
        entries, policies = {"e": entry or self.entry}, {"report": TypePolicy("report")}
        return Crontab(
            self.port, entries, queues or {}, policies, Clock(self.now), self.late.append, self.log, lambda: self.now
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.server_ms += seconds * 1000

    def run(self) -> list[int]:
        """Take all jobs out; the times of their ticks since the start, in seconds."""
        pending = self.port.state("default").pending
        found = []
        while pending:
            tick = codec.decode(pending.pop(), raw_type=None).headers["tick"]
            found.append(int(datetime.fromisoformat(tick).timestamp()) - START // 1000)
        self.pushed += found
        return found


def step(world: World, *stewards: Crontab, until: float) -> None:
    """Everybody sleeps exactly as long as they say, and looks."""
    end = world.now + until
    while True:
        for steward in stewards:
            steward.tick_due(world.now)
        wait = min(steward.next_due(world.now) for steward in stewards)
        if world.now + wait > end:
            world.pass_time(end - world.now)
            return
        world.pass_time(wait)


def test_two_stewards_push_each_tick_once_and_on_time() -> None:
    world = World()
    step(world, world.steward(), world.steward(), until=35)
    assert world.run() == [10, 20, 30]
    assert max(world.late) < 0.001


def test_it_sleeps_until_the_next_tick() -> None:
    world = World(schedule="0 3 * * *")
    steward = world.steward()
    assert steward.next_due(world.now) == 0, "it has not asked yet"
    steward.tick_due(world.now)
    assert steward.next_due(world.now) == 3 * 3600


def test_what_was_missed_while_all_were_down_is_made_up_for_once() -> None:
    world = World()
    step(world, world.steward(), until=12)
    world.pass_time(60)
    step(world, world.steward(), until=10)
    assert world.run() == [10, 70, 80]


def test_or_is_not() -> None:
    world = World(schedule=HOURLY.fields, catch_up="none")
    step(world, world.steward(), until=3601)
    world.pass_time(3600 + LATE_MS / 1000)
    step(world, world.steward(), until=1)
    assert world.run() == [3600], "7200 is more than a minute ago"
    world.pass_time(3600 - 2)
    step(world, world.steward(), until=1)
    assert world.run() == [10800]


def test_a_new_entry_has_missed_nothing() -> None:
    world = World()
    world.pass_time(3)
    world.steward().tick_due(world.now)
    assert world.run() == []


def test_a_changed_schedule_has_missed_nothing() -> None:
    """At half past, from once an hour at :00 to once an hour at :20."""
    world = World(schedule="0 * * * *")
    step(world, world.steward(), until=5400)
    changed = world.steward(CronEntry(schedule="20 * * * *", type="report"))
    step(world, changed, until=3600)
    assert world.run() == [3600, 8400]


def test_no_room_means_later_and_once() -> None:
    world = World(queue="default")
    steward = world.steward(queues={"default": QueueSettings(max_length=1)})
    world.port.enqueue([NewJob("default", "x", b"x")])
    step(world, steward, until=35)
    assert list(world.port.state("default").pending) == [b"x"]
    world.port.state("default").pending.clear()
    step(world, steward, until=AGAIN_MS / 1000)
    assert world.run() == [30], "one stands for all"
    assert world.log.said == ["cron entry cannot tick, trying again", "cron entry ticks again"]


def test_nor_is_a_full_memory_the_end() -> None:
    world = World()
    steward = world.steward()
    step(world, steward, until=5)
    world.port.fails = "OOM"
    step(world, steward, until=20)
    world.port.fails = ""
    step(world, steward, until=1)
    assert world.run() == [20]


def test_a_clock_set_back_far_does_not_stop_the_entry_for_years() -> None:
    """It ran ahead, somebody noticed: ticks go on from the new time. After a small step they wait instead."""
    for back, expected in ((AHEAD_MS // 1000 + 100, True), (3600, False)):
        world = World(schedule="* * * * *")
        steward = world.steward()
        step(world, steward, until=61)
        assert world.run() == [60]
        world.server_ms -= back * 1000
        steward.clock.saw(int(world.server_ms), world.now)  # any answer tells
        step(world, steward, until=120)
        assert bool(world.run()) is expected


def test_an_entry_is_not_forgotten_while_somebody_knows_it() -> None:
    world = World(schedule="0 0 1 1 *")
    steward = world.steward()
    steward.tick_due(world.now)
    world.port.state("default").ticks.clear()
    world.pass_time(REMIND + 1)
    steward.tick_due(world.now)
    assert "e" in world.port.state("default").ticks


def test_a_type_that_nobody_here_runs_is_told_once() -> None:
    world = World(type="rebort")
    step(world, world.steward(), until=35)
    assert world.log.said == ["no handler here for a cron entry"]


class Histories(RuleBasedStateMachine):
    """Two hosts. The world's clock never goes back here; a steward's idea of it may be wrong by seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.stewards: list[Crontab | None] = [self.world.steward(), None]

    @rule(who=st.integers(0, 1), alive=st.booleans())
    def is_born_or_dies(self, who: int, alive: bool) -> None:
        self.stewards[who] = self.world.steward() if alive else None

    @rule(seconds=st.sampled_from([0.001, 0.5, 3.0, 9.999, 10.0, 47.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.5, 3.0, 700.0]))
    def the_servers_clock_is_set_forward(self, seconds: float) -> None:
        self.world.server_ms += seconds * 1000

    @rule(who=st.integers(0, 1), ms=st.integers(-15_000, 15_000))
    def a_steward_is_wrong_about_the_time(self, who: int, ms: int) -> None:
        if (steward := self.stewards[who]) is not None and steward.clock.offset_ms is not None:
            steward.clock.offset_ms += ms

    @rule(fails=st.sampled_from(["", "", "", "before", "after", "OOM"]))
    def the_server_fails_or_is_well(self, fails: Any) -> None:
        self.world.port.fails = fails

    @rule(who=st.integers(0, 1))
    def looks(self, who: int) -> None:
        steward = self.stewards[who]
        if steward is None:
            return
        try:
            steward.tick_due(self.world.now)
        except Unavailable:
            self.stewards[who] = None  # it will be a new one

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """Then nothing is owed: the last tick is in, whatever happened before."""
        self.world.port.fails = ""
        self.stewards[0] = self.world.steward()
        step(self.world, self.stewards[0], until=AGAIN_MS / 1000)
        self.world.run()
        last = self.world.port.state("default").ticks["e"][0]
        assert EACH_10_S.after(last) is not None
        assert (EACH_10_S.after(last) or 0) > self.world.server_ms, "something is still owed"

    @invariant()
    def ticks_are_ticks_and_come_once_and_in_order(self) -> None:
        self.world.run()
        pushed = self.world.pushed
        assert pushed == sorted(set(pushed))
        assert all(tick % 10 == 0 for tick in pushed)
        assert all(START + tick * 1000 <= self.world.server_ms for tick in pushed)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 4.9), min_size=1, max_size=60))
def test_whoever_looks_often_enough_skips_nothing(pauses: list[float]) -> None:
    """At any moments less than five seconds apart, by a new steward each time: every tick is there."""
    world = World()
    world.steward().tick_due(world.now)
    for pause in pauses:
        world.pass_time(pause)
        world.steward().tick_due(world.now)
    world.run()
    assert world.pushed == list(range(10, int(world.server_ms - START) // 1000 + 1, 10))
