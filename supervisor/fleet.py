"""The plan: what is compared with what should be, and the difference as actions. Pure: no process, no clock, no I/O.

Not an event handler: crash, hang, resize, reload, recycle and drain have no code of their own here, each is a
difference between `slots` and `desired`. The master calls `plan` after every turn of its loop, carries out what it
says, and gives each action to `applied`, which is the same bookkeeping the property tests use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from math import inf
from typing import assert_never

from supervisor.desired import (
    Abort,
    Action,
    Desired,
    Drain,
    GiveUp,
    Kill,
    Policy,
    PoolSize,
    Rollback,
    Settled,
    SlotAction,
    Spawn,
    Stop,
    Why,
)
from supervisor.rows import surge
from supervisor.slot import FRESH, Slot, State

STUCK = 10.0  # seconds; a killed process that is still there after that (in the kernel) is replaced in another slot


def plan(slots: Collection[Slot], desired: Desired, policy: Policy, now: float) -> tuple[list[Action], float]:
    """What to do now, and when (monotonic seconds, inf: never) there will be something to do if nothing happens."""
    seen = -inf if now < policy.grace_until else now  # the moment deadlines are compared with
    actions: list[Action] = []
    for slot in slots:
        actions += _slot_actions(slot, desired, policy, seen)
    if desired.stop is Stop.RUN:
        if verdict := _verdict(slots, desired, policy):
            return [verdict], now
        killed = {action.slot for action in actions if isinstance(action, Kill)}
        for pool in desired.pools:
            mine = [slot for slot in slots if slot.pool == pool.name]
            dying = {slot.number for slot in mine if slot.number in killed and slot.state is not State.KILLED}
            actions += _balance(mine, pool, desired, now, dying)
        names = {pool.name for pool in desired.pools}
        actions += [Drain(slot.number) for slot in slots if slot.pool not in names and slot.state is State.READY]
        if not actions and desired.previous is not None and _has_settled(slots, desired):
            actions.append(Settled(desired.generation))
    return actions, _wake_at(slots, desired, policy, now)


def _slot_actions(slot: Slot, desired: Desired, policy: Policy, now: float) -> Iterator[Action]:
    """Deadlines and the drain: what concerns one slot without a look at the others."""
    match slot.state:
        case State.EMPTY:
            return
        case State.KILLED:
            if slot.deadline <= now:
                yield Kill(slot.number, slot.cause)
        case State.STARTING:
            if desired.stop is not Stop.RUN and min(desired.stop_at, slot.deadline) <= now:
                yield Kill(slot.number, "drain")
            elif slot.deadline <= now:
                yield Kill(slot.number, "boot")
            elif desired.stop is Stop.RUN and slot.generation not in _generations(desired):
                yield Kill(slot.number, "superseded")
        case State.READY | State.DRAINING:
            yield from _limits(slot, desired, policy, now)
        case _:
            assert_never(slot.state)


def _limits(slot: Slot, desired: Desired, policy: Policy, now: float) -> Iterator[Action]:
    job = slot.job
    if job is not None and job.hard_at <= now:
        yield Kill(slot.number, "hard_limit")
        return
    if slot.memory > slot.limits.memory:
        yield Kill(slot.number, "memory")
        return
    if slot.kill_at <= now:
        yield Kill(slot.number, "drain")
        return
    if slot.silent_at(policy.grace_until) <= now:
        yield Kill(slot.number, "hung")
        return
    if desired.stop is not Stop.RUN and slot.state is State.READY:
        yield Drain(slot.number)
    if desired.stop is not Stop.RUN and desired.stop_at <= now:
        number = job.number if job is not None else 0
        if slot.kill_at == inf or number > slot.aborted:
            yield Abort(slot.number, number, Why.DRAIN)
    elif job is not None and job.soft_at <= now and job.number != slot.aborted:
        yield Abort(slot.number, job.number, Why.TIMEOUT)


def _verdict(slots: Iterable[Slot], desired: Desired, policy: Policy) -> Action | None:
    for slot in slots:
        if desired.previous is not None and slot.failed_generation == desired.generation:
            return Rollback(desired.previous.generation, slot.number)
        if not desired.proven and slot.backoff.failures >= policy.boot_attempts:
            return GiveUp(slot.number)
    return None


def _balance(slots: list[Slot], pool: PoolSize, desired: Desired, now: float, dying: set[int]) -> Iterator[Action]:
    """Starts what is missing, old generations replaced with a surge; drains only what is ready beyond the size."""
    alive = [slot for slot in slots if slot.alive and slot.number not in dying]
    current = sum(slot.generation == desired.generation for slot in alive)
    empty = [slot for slot in slots if slot.state is State.EMPTY]
    # A place in backoff, or whose process is about to be reaped, stays taken, or another slot would dodge the backoff.
    waiting = sum(slot.backoff.waiting(now) for slot in empty)
    waiting += sum(slot.state is State.KILLED and now - slot.since < STUCK for slot in slots) + len(dying)
    missing = pool.processes - current - waiting
    room = pool.processes + (surge(pool.processes) if current < len(alive) else 0) - len(alive) - waiting
    if desired.generation in desired.spawnable:
        free = [slot for slot in empty if not slot.backoff.waiting(now)]
        free.sort(key=lambda slot: (-slot.backoff.failures, slot.index))
        for slot in free[: max(0, min(missing, room))]:
            yield Spawn(slot.number, desired.generation, pool.limits)
    ready_now = [slot for slot in alive if slot.state is State.READY]
    surplus = len(ready_now) - pool.processes
    # Old generations first, from the lowest index up; of the current one the highest: so names stay low and dense.
    ready_now.sort(key=lambda slot: slot.index if slot.generation != desired.generation else -slot.index)
    ready_now.sort(key=lambda slot: slot.generation == desired.generation)
    for slot in ready_now[: max(0, surplus)]:
        yield Drain(slot.number)


def _has_settled(slots: Iterable[Slot], desired: Desired) -> bool:
    """Every pool is full of ready workers of this generation, and no other generation takes jobs any more."""
    alive = [slot for slot in slots if slot.alive]
    if any(slot.generation != desired.generation or slot.state is State.STARTING for slot in alive):
        return False
    return all(sum(slot.pool == pool.name for slot in alive) >= pool.processes for pool in desired.pools)


def _wake_at(slots: Iterable[Slot], desired: Desired, policy: Policy, now: float) -> float:
    moments = [desired.stop_at] if desired.stop is not Stop.RUN else []
    for slot in slots:
        match slot.state:
            case State.EMPTY:
                moments.append(slot.backoff.not_before)
            case State.STARTING | State.KILLED:
                moments.append(slot.deadline)
            case State.READY | State.DRAINING:
                moments += (slot.kill_at, slot.silent_at(policy.grace_until))
                if slot.job is not None:
                    moments += (slot.job.soft_at, slot.job.hard_at)
            case _:
                assert_never(slot.state)
    # A deadline that passed in a grace is looked at when the grace ends.
    if now < policy.grace_until:
        moments = [max(moment, policy.grace_until) for moment in moments]
    return min((moment for moment in moments if moment > now), default=inf)


def applied(slot: Slot, action: SlotAction, policy: Policy, now: float, birth: int = 0) -> Slot:
    """The slot after an action on it was carried out; `birth` is for Spawn."""
    match action:
        case Spawn():
            return slot.spawned(birth, action.generation, now, action.limits)
        case Drain():
            return slot.drained(now)
        case Abort():
            if action.why is Why.DRAIN:
                return slot.told_to_stop(action.number, now + policy.abort_grace)
            return slot.told_to_abort(action.number)
        case Kill():
            return slot.killed(action.cause, now)
        case _:
            assert_never(action)


def rolled_back(slots: Iterable[Slot], generation: int) -> list[Slot]:
    """The slots with the failures of a generation that was given up forgotten: they say nothing about its successor."""
    return [
        replace(slot, backoff=FRESH, failed_generation=0) if slot.failed_generation == generation else slot
        for slot in slots
    ]


def ready(slots: Iterable[Slot]) -> int:
    return sum(slot.state is State.READY for slot in slots)


def idle(slots: Iterable[Slot]) -> bool:
    """No slot has a process."""
    return all(slot.state is State.EMPTY for slot in slots)


def _generations(desired: Desired) -> tuple[int, ...]:
    return (desired.generation,) if desired.previous is None else (desired.generation, desired.previous.generation)
