"""Properties of the plan over random histories: whatever happens in whatever order, these hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor import fleet
from supervisor.desired import PoolSize, Stop
from supervisor.slot import State
from tests.unit.fleet_world import World

PICK = st.integers(min_value=0, max_value=10**6)


class Histories(RuleBasedStateMachine):
    """Random events; `World.act` refuses a second process in a slot, a second TERM, a spawn in a drain."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(PoolSize("default", 3), PoolSize("mail", 1))
        self.world.settle()

    def pick(self, number: int, *states: State) -> int | None:
        found = self.world.in_state(*states)
        return found[number % len(found)] if found else None

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 10.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.settle()

    @rule(seconds=st.sampled_from([5.0, 3600.0]))
    def the_master_was_stopped(self, seconds: float) -> None:
        world = self.world
        kills = sum(process.kills for process in world.processes.values())
        world.now += seconds
        world.policy = replace(world.policy, grace_until=world.now + 1)
        superseded = [
            slot
            for slot in world.slots.values()
            if slot.state is State.STARTING and slot.generation != world.desired.generation
        ]
        world.settle()
        assert sum(process.kills for process in world.processes.values()) <= kills + len(superseded)

    @rule(number=PICK)
    def hello(self, number: int) -> None:
        if (slot := self.pick(number, State.STARTING)) is not None:
            self.world.hello(slot)
            self.world.settle()

    @rule(number=PICK, limit=st.sampled_from([0.5, 20.0, float("inf")]))
    def job_starts(self, number: int, limit: float) -> None:
        slot = self.pick(number, State.READY)
        if slot is not None and self.world.processes[slot].job is None:
            self.world.start_job(slot, limit, limit + 1)
            self.world.settle()

    @rule(number=PICK)
    def job_ends(self, number: int) -> None:
        slot = self.pick(number, State.READY, State.DRAINING)
        if slot is not None and self.world.processes[slot].job is not None:
            self.world.finish_job(slot)
            self.world.settle()

    @rule(number=PICK, code=st.sampled_from([0, 1, -9]))
    def death(self, number: int, code: int) -> None:
        slot = self.pick(number, State.STARTING, State.READY, State.DRAINING, State.KILLED)
        if slot is not None:
            self.world.die(slot, code=code)
            self.world.settle()

    @rule()
    def the_killed_are_reaped(self) -> None:
        self.world.reap_killed()
        self.world.settle()

    @precondition(lambda self: self.world.desired.stop is Stop.RUN)
    @rule(size=st.integers(min_value=1, max_value=5), mail=st.booleans())
    def reload(self, size: int, mail: bool) -> None:
        pools = (PoolSize("default", size), *((PoolSize("mail", 1),) if mail else ()))
        self.world.reload(*pools)
        self.world.settle()

    @precondition(lambda self: self.world.desired.stop is Stop.RUN)
    @rule(size=st.integers(min_value=1, max_value=5))
    def resize(self, size: int) -> None:
        self.world.resize(size)
        self.world.settle()

    @precondition(lambda self: self.world.desired.stop is Stop.RUN)
    @rule(ready=st.booleans())
    def forkserver(self, ready: bool) -> None:
        generations = frozenset({self.world.desired.generation}) if ready else frozenset[int]()
        self.world.desired = replace(self.world.desired, spawnable=generations)
        self.world.settle()

    @rule(timeout=st.sampled_from([0.0, 15.0]))
    def stop(self, timeout: float) -> None:
        self.world.stop(timeout)
        self.world.settle()

    @invariant()
    def facts_agree(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """From any state: a good world fills up again, and a drain ends in its time with everybody ignoring TERM."""
        world = self.world
        world.policy = replace(world.policy, grace_until=-float("inf"))
        if world.desired.stop is Stop.RUN and not world.given_up:
            _heals(world)
        _drains(world)


def _heals(world: World) -> None:
    world.desired = replace(
        world.desired, spawnable=world.desired.spawnable | {world.desired.generation, *_previous(world)}
    )
    for _ in range(200):
        world.settle()
        if world.given_up:
            return
        for number in world.in_state(State.STARTING):
            world.hello(number)
        for number in world.in_state(State.KILLED, State.DRAINING):
            world.die(number, code=0)
        world.now += 1.0
    for pool in world.desired.pools:
        assert world.ready(pool.name) == pool.processes
    assert world.desired.previous is None
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {world.desired.generation}


def _previous(world: World) -> tuple[int, ...]:
    return () if world.desired.previous is None else (world.desired.previous.generation,)


def _drains(world: World) -> None:
    if world.given_up:
        world.given_up = False
    world.stop(5.0)
    end = max(world.now, world.desired.stop_at) + world.policy.abort_grace
    while not fleet.idle(world.slots.values()):
        wake = world.settle()
        world.reap_killed()
        if not fleet.idle(world.slots.values()):
            assert world.now <= end, "the drain outlives its deadline"
            assert wake < float("inf"), "the drain waits for nothing"
            world.now = wake
    assert world.now <= end


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(size=st.integers(1, 12), order=st.lists(PICK, min_size=1, max_size=60), slow=st.booleans())
@settings(deadline=None, max_examples=100)
def test_capacity_never_falls_below_the_size_while_a_good_generation_rolls_out(
    size: int, order: list[int], slow: bool
) -> None:
    world = World(PoolSize("default", size))
    world.settle()
    world.boot_all()
    world.reload()
    world.settle()
    for number in order:
        states = (State.STARTING,) if slow else (State.STARTING, State.DRAINING)
        found = world.in_state(*states)
        if found:
            slot = found[number % len(found)]
            if world.slots[slot].state is State.STARTING:
                world.hello(slot)
            else:
                world.die(slot, code=0)
        world.settle()
        assert world.ready() >= size


@given(lives=st.lists(st.sampled_from([0.0, 0.02, 0.5, 3.0]), min_size=1, max_size=300), boots=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_crash_loop_is_rate_limited(lives: list[float], boots: bool) -> None:
    """Four workers that die idle, or at boot, as soon as they please: soon only a few tries a minute are left."""
    world = World(PoolSize("default", 4))
    world.desired = replace(world.desired, proven=True)
    start = world.now
    for life in lives:
        wake = world.settle()
        starting = world.in_state(State.STARTING)
        if not starting:
            world.now = wake
            continue
        world.now += life
        for number in starting:
            if boots:
                world.hello(number)
            world.die(number)
    late = [at for at, _ in world.spawns if at > start + 120]
    for at in late:
        assert sum(at <= other < at + 60 for other in late) <= 4 * 3


@given(size=st.integers(1, 8), good=st.integers(0, 7))
@settings(deadline=None)
def test_rollback_at_the_first_bad_boot_wherever_it_happens(size: int, good: int) -> None:
    world = World(PoolSize("default", size))
    world.settle()
    world.boot_all()
    bad = world.reload()
    world.settle()
    for _ in range(good % size):
        world.hello(world.in_state(State.STARTING)[0])
        world.settle()
    if world.desired.previous is None:
        pytest.skip("the roll was over")
    starts = len(world.spawns)
    world.die(world.in_state(State.STARTING)[0])
    world.settle()
    assert world.rollbacks == [bad]
    assert world.desired.generation == 1
    assert all(world.processes[slot].generation == 1 for at, slot in world.spawns[starts:])
    world.come_to_rest()
    assert world.ready() == size
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {1}


@given(hups=st.integers(2, 6), steps=st.lists(st.integers(0, 4), min_size=6, max_size=6))
@settings(deadline=None)
def test_the_newest_hup_wins(hups: int, steps: list[int]) -> None:
    world = World(PoolSize("default", 3))
    world.settle()
    world.boot_all()
    newest = 1
    for count in range(hups):
        newest = world.reload()
        world.settle()
        for _ in range(steps[count]):
            for number in world.in_state(State.STARTING)[:1]:
                world.hello(number)
            world.reap_killed()
            world.settle()
    world.come_to_rest()
    assert world.desired.generation == newest
    assert world.desired.previous is None
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {newest}
