"""A world for the plan: simulated processes and a simulated clock around the real `plan` and `applied`.

Not a mock of the plan: it only answers actions as an operating system would. Used by test_fleet_*.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from math import inf

from supervisor import fleet
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
    Spawn,
    Stop,
)
from supervisor.rows import lay_out, surge
from supervisor.slot import Job, Slot, State


@dataclass
class Process:
    birth: int
    generation: int
    pid: int
    terms: int = 0
    kills: int = 0
    job: Job | None = None
    aborts: list[int] = field(default_factory=list)


class World:
    """Carries out actions, checks what must hold at every moment, and lets tests make events happen."""

    def __init__(self, *pools: PoolSize, rows: int = 64) -> None:
        self.now = 1000.0
        self.rows = rows
        self.desired = Desired(1, pools, spawnable=frozenset({1}))
        self.policy = Policy()
        self.slots: dict[int, Slot] = {}
        self.processes: dict[int, Process] = {}
        self.births = itertools.count(1)
        self.generations = itertools.count(2)
        self.finished: dict[str, int] = {}
        self.spawns: list[tuple[float, int]] = []
        self.given_up = False
        self.rollbacks: list[int] = []
        self.settled: list[int] = []
        self.lay_out()

    # The shell of the plan, as the master does it.

    def lay_out(self) -> None:
        self.slots = {slot.number: slot for slot in lay_out(self.slots.values(), self.desired.pools, self.rows)}

    def settle(self) -> float:
        """Plan and act until nothing is to do; when to look again."""
        actions: list[Action] = []
        for _ in range(100):
            actions, wake_at = fleet.plan(self.slots.values(), self.desired, self.policy, self.now)
            if self.given_up:
                return inf
            if not actions:
                assert wake_at > self.now, "a plan that wants to be woken in the past spins"
                return wake_at
            for action in actions:
                self.act(action)
            self.check()
        raise AssertionError(f"the plan does not come to rest: {actions}")

    def act(self, action: Action) -> None:
        match action:
            case Rollback():
                assert self.desired.previous is not None
                self.rollbacks.append(self.desired.generation)
                slots = fleet.rolled_back(self.slots.values(), self.desired.generation)
                self.slots = {slot.number: slot for slot in slots}
                previous = self.desired.previous
                self.desired = replace(
                    previous, spawnable=self.desired.spawnable, proven=self.desired.proven, previous=None
                )
                self.lay_out()
                return
            case Settled():
                self.settled.append(self.desired.generation)
                self.desired = replace(self.desired, previous=None)
                return
            case GiveUp():
                self.given_up = True
                return
        slot = self.slots[action.slot]
        process = self.processes.get(slot.number)
        match action:
            case Spawn():
                assert process is None, f"two processes in slot {slot.name}"
                assert self.desired.stop is Stop.RUN, "spawned while draining"
                self.check_room(slot)
                birth = next(self.births)
                self.processes[slot.number] = Process(birth, action.generation, 10_000 + birth)
                self.spawns.append((self.now, slot.number))
                self.slots[slot.number] = fleet.applied(slot, action, self.policy, self.now, birth)
                return
            case Drain():
                assert process is not None
                process.terms += 1
                assert process.terms == 1, "a second TERM turns a graceful stop into a forced one"
            case Abort():
                assert process is not None
                process.aborts.append(action.number)
            case Kill():
                assert process is not None
                process.kills += 1
        self.slots[slot.number] = fleet.applied(slot, action, self.policy, self.now)

    def check_room(self, slot: Slot) -> None:
        """Before a spawn: the pool has a place, or a place for the surge while generations mix."""
        (size,) = [pool.processes for pool in self.desired.pools if pool.name == slot.pool]
        alive = [other for other in self.slots.values() if other.pool == slot.pool and other.alive]
        mixed = any(other.generation != self.desired.generation for other in alive)
        assert len(alive) < size + (surge(size) if mixed else 0)

    def check(self) -> None:
        for slot in self.slots.values():
            process = self.processes.get(slot.number)
            assert (slot.state is State.EMPTY) == (process is None), f"{slot.name}: {slot.state} with {process}"

    # Events.

    def hello(self, number: int) -> None:
        process = self.processes[number]
        self.slots[number] = self.slots[number].hello(process.pid, self.now)
        self.desired = replace(self.desired, proven=self.desired.proven or self.slots[number].state is State.READY)

    def start_job(self, number: int, soft: float = inf, hard: float = inf) -> None:
        process = self.processes[number]
        last = process.aborts[-1] if process.aborts else 0
        process.job = Job(max(last, process.birth * 1000) + 1, self.now + soft, self.now + hard)
        self.slots[number] = self.slots[number].running(process.job)

    def finish_job(self, number: int) -> None:
        slot = self.slots[number]
        self.processes[number].job = None
        self.finished[slot.pool] = self.finished.get(slot.pool, 0) + 1
        self.slots[number] = slot.running(None)

    def die(self, number: int, *, code: int = 1) -> None:
        process = self.processes.pop(number)
        slot = self.slots[number]
        self.slots[number] = slot.emptied(
            self.now,
            planned=code == 0,
            in_job=process.job is not None,
            progress=self.finished.get(slot.pool, 0),
        )
        if slot.pool not in {pool.name for pool in self.desired.pools}:
            self.lay_out()

    def reload(self, *pools: PoolSize) -> int:
        generation = next(self.generations)
        good = replace(self.desired.previous or self.desired, previous=None)
        self.desired = replace(
            self.desired,
            generation=generation,
            pools=pools or self.desired.pools,
            previous=good,
            spawnable=self.desired.spawnable | {generation},
        )
        self.lay_out()
        return generation

    def resize(self, processes: int) -> None:
        first, *rest = self.desired.pools
        self.desired = replace(self.desired, pools=(replace(first, processes=processes), *rest))
        self.lay_out()

    def stop(self, timeout: float) -> None:
        kind = Stop.DRAIN if timeout > 0 else Stop.ABORT
        stop_at = min(self.desired.stop_at, self.now + timeout)
        self.desired = replace(self.desired, stop=kind, stop_at=stop_at, previous=None)

    # Moves of obedient processes.

    def in_state(self, *states: State) -> list[int]:
        return [number for number, slot in self.slots.items() if slot.state in states]

    def ready(self, pool: str = "default") -> int:
        return sum(slot.pool == pool and slot.state is State.READY for slot in self.slots.values())

    def reap_killed(self) -> None:
        for number in self.in_state(State.KILLED):
            self.die(number, code=-9)

    def boot_all(self) -> None:
        """Let everybody say hello, and plan, until nobody starts any more."""
        while starting := self.in_state(State.STARTING):
            for number in starting:
                self.hello(number)
            self.settle()

    def come_to_rest(self) -> None:
        """Everybody does at once what is asked: boots succeed, the drained leave, the killed are reaped."""
        self.settle()
        while moving := self.in_state(State.STARTING, State.DRAINING, State.KILLED):
            for number in moving:
                if self.slots[number].state is State.STARTING:
                    self.hello(number)
                else:
                    self.die(number, code=0)
            self.settle()
