"""The plan on histories written by hand: what each difference between slots and desired turns into."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor import fleet
from supervisor.desired import Kill, Limits, PoolSize
from supervisor.rows import lay_out
from supervisor.slot import SlotTaken, State
from tests.unit.fleet_world import World

FOUR = PoolSize("default", 4)


def booted(*pools: PoolSize) -> World:
    world = World(*(pools or (FOUR,)))
    world.settle()
    world.boot_all()
    return world


def test_a_pool_is_filled_and_then_left_alone() -> None:
    world = booted()
    assert world.ready() == 4
    assert len(world.spawns) == 4
    assert world.settle() == float("inf")


def test_nothing_starts_before_a_forkserver_is_ready() -> None:
    world = World(FOUR)
    world.desired = replace(world.desired, spawnable=frozenset())
    world.settle()
    assert world.spawns == []


def test_a_death_in_a_job_is_replaced_at_once_however_often() -> None:
    world = booted()
    for _ in range(20):
        world.start_job(0)
        world.die(0)
        world.settle()
        world.hello(0)
    assert len(world.spawns) == 24


def test_the_first_idle_death_is_replaced_at_once_the_next_ones_wait_longer_and_longer() -> None:
    world = booted()
    waits = []
    for _ in range(6):
        world.die(0)
        died = world.now
        wake = world.settle()
        if world.slots[0].state is State.EMPTY:
            world.now = wake
            world.settle()
        waits.append(round(world.now - died, 3))
        world.hello(0)
    assert waits == [0, 0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_job_finished_in_the_pool_ends_the_backoff() -> None:
    world = booted()
    for _ in range(3):
        world.die(0)
        world.settle()
        world.now += 1
        world.settle()
        world.hello(0)
    world.start_job(1)
    world.finish_job(1)
    world.die(0)
    world.settle()
    assert world.slots[0].state is State.STARTING


def test_recycling_is_no_failure() -> None:
    world = booted()
    for _ in range(5):
        world.now += 2
        world.die(0, code=0)
        world.settle()
        world.hello(0)
    assert len(world.spawns) == 9


def test_a_worker_that_leaves_at_once_again_and_again_is_slowed_down() -> None:
    world = booted()
    for _ in range(2):
        world.die(0, code=0)
        world.settle()
        if world.slots[0].state is State.STARTING:
            world.hello(0)
    assert world.slots[0].state is State.EMPTY


def test_a_process_that_does_not_say_hello_is_killed_at_its_deadline_and_waited_for() -> None:
    world = World(replace(FOUR, limits=Limits(start=3.0)))
    wake = world.settle()
    assert wake == world.now + 3.0
    world.now = wake
    world.settle()
    assert {slot.state for slot in world.slots.values() if slot.pid == 0 and slot.birth} == {State.KILLED}
    assert len(world.spawns) == 4
    world.reap_killed()
    world.settle()
    assert len(world.spawns) == 4  # backoff first


def test_hello_after_the_kill_does_not_revive() -> None:
    world = World(FOUR)
    world.now = world.settle()
    world.settle()
    world.hello(0)
    assert world.slots[0].state is State.KILLED


def test_three_failed_boots_of_one_slot_before_anything_was_ready_give_up() -> None:
    world = World(FOUR)
    for _ in range(10):
        world.settle()
        for number in world.in_state(State.STARTING):
            world.die(number)
        world.now += 1
    assert world.given_up
    assert len(world.spawns) <= 12


def test_boot_failures_later_never_give_up() -> None:
    world = booted()
    for number in world.in_state(State.READY):
        world.die(number)
    for _ in range(10):
        world.settle()
        for number in world.in_state(State.STARTING):
            world.die(number)
        world.now += 40
    assert not world.given_up


def test_soft_limit_aborts_once_and_hard_limit_kills() -> None:
    world = booted()
    world.start_job(2, soft=1.0, hard=3.0)
    assert world.settle() == world.now + 1.0
    for _ in range(3):
        world.now += 1.0
        world.settle()
    process = world.processes[2]
    assert process.job is not None
    assert process.aborts == [process.job.number]
    assert world.slots[2].state is State.KILLED
    assert world.slots[2].cause == "hard_limit"


def test_after_a_stall_nobody_is_killed_before_the_grace_ends() -> None:
    """Deadlines that passed while the machine slept or the master was stopped are looked at again a moment later."""
    world = booted()
    world.start_job(2, soft=1.0, hard=3.0)
    world.now += 3600
    world.policy = replace(world.policy, grace_until=world.now + 1)
    assert world.settle() == world.now + 1
    assert world.processes[2].aborts == []
    assert world.processes[2].kills == 0
    world.now += 1
    world.settle()
    assert world.processes[2].kills == 1


def test_a_kill_without_effect_is_repeated() -> None:
    world = booted()
    world.start_job(2, hard=1.0)
    for _ in range(3):
        world.now = world.settle()
    world.settle()
    assert world.processes[2].kills == 3


def test_reload_moves_slot_by_slot_and_never_below_the_configured_size() -> None:
    world = booted()
    generation = world.reload()
    world.settle()
    while world.desired.previous is not None:
        assert world.ready() >= 4
        assert sum(slot.alive for slot in world.slots.values()) <= 5
        for number in world.in_state(State.STARTING):
            world.hello(number)
        world.settle()
        assert world.ready() >= 4
        for number in world.in_state(State.DRAINING):
            world.die(number, code=0)
        world.settle()
    assert world.settled == [generation]
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {generation}
    assert len(world.spawns) == 8


def test_a_reload_does_not_wait_for_long_jobs() -> None:
    """Workers of the old generation that still run a job do not hold up the swap; they are not hurried either."""
    world = booted()
    for number in range(4):
        world.start_job(number)
    generation = world.reload()
    world.settle()
    world.boot_all()
    assert world.settled == [generation]
    assert world.ready() == 4
    assert len(world.in_state(State.DRAINING)) == 4
    assert all(process.kills == 0 and not process.aborts for process in world.processes.values())


def test_reload_stops_and_rolls_back_at_the_first_bad_boot() -> None:
    world = booted()
    bad = world.reload()
    world.settle()
    (first,) = world.in_state(State.STARTING)
    world.die(first)
    world.settle()
    assert world.rollbacks == [bad]
    assert world.desired.generation == 1
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {1}
    assert world.ready() == 4
    good = world.reload()
    world.settle()
    world.boot_all()
    assert world.settled == [good]


def test_a_late_bad_boot_brings_the_old_generation_back_everywhere() -> None:
    world = booted()
    world.reload()
    world.settle()
    world.hello(world.in_state(State.STARTING)[0])
    world.settle()
    world.die(world.in_state(State.STARTING)[0])
    world.settle()
    world.boot_all()
    assert world.ready() == 4
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {1}


def test_a_hup_in_a_roll_the_newest_wins_and_falls_back_to_what_was_proven() -> None:
    world = booted()
    world.reload()
    world.settle()
    world.hello(world.in_state(State.STARTING)[0])
    world.settle()
    newest = world.reload()
    assert world.desired.previous is not None
    assert world.desired.previous.generation == 1
    world.settle()
    world.reap_killed()
    world.settle()
    world.boot_all()
    assert world.settled == [newest]
    assert {slot.generation for slot in world.slots.values() if slot.alive} == {newest}


def test_one_worker_more_and_less() -> None:
    world = booted()
    world.resize(5)
    world.settle()
    world.boot_all()
    assert world.ready() == 5
    world.resize(3)
    world.settle()
    assert world.ready() == 3
    assert len(world.in_state(State.DRAINING)) == 2
    assert {slot.index for slot in world.slots.values() if slot.state is State.READY} == {0, 1, 2}


def test_a_pool_that_is_gone_from_the_file_is_drained_and_its_rows_come_back() -> None:
    world = booted(FOUR, PoolSize("mail", 2))
    world.reload(PoolSize("default", 4))
    world.settle()
    world.boot_all()
    assert world.ready("mail") == 0
    for number in world.in_state(State.DRAINING):
        world.die(number, code=0)
    assert {slot.pool for slot in world.slots.values()} == {"default"}


def test_drain_sends_one_term_waits_and_then_aborts_and_kills() -> None:
    world = booted()
    world.start_job(0)
    world.stop(30.0)
    assert world.settle() == world.now + 30.0
    for number in (1, 2, 3):
        world.die(number, code=0)
    world.settle()
    assert world.processes[0].kills == 0
    world.now += 30.0
    assert world.settle() == world.now + world.policy.abort_grace
    assert world.processes[0].aborts
    world.now += world.policy.abort_grace
    world.settle()
    assert world.slots[0].cause == "drain"


def test_a_second_term_aborts_now() -> None:
    world = booted()
    world.start_job(0)
    world.stop(30.0)
    world.settle()
    world.now += 1
    world.stop(0.0)
    world.settle()
    assert world.processes[0].aborts
    assert world.processes[0].terms == 1


def test_a_slot_refuses_a_second_process() -> None:
    world = booted()
    with pytest.raises(SlotTaken):
        world.slots[0].spawned(99, 1, world.now, Limits())


def test_rows_are_enough_for_the_largest_fleet() -> None:
    """1,020 workers leave four rows to reload with; every row is used once."""
    slots = lay_out((), (PoolSize("default", 1020),))
    assert len(slots) == 1024
    assert len({slot.number for slot in slots}) == 1024


def test_kill_is_for_one_slot_alone() -> None:
    world = booted()
    world.start_job(1, hard=0.5)
    world.now += 0.5
    actions, _ = fleet.plan(world.slots.values(), world.desired, world.policy, world.now)
    assert actions == [Kill(1, "hard_limit")]
