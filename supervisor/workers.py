"""The worker processes behind the slots: carries out what the plan says and reports what becomes of them.

Not the plan: it decides nothing but what a death was. Called by the master. A status of a child nobody knows yet is kept
while a slot is STARTING: the word of a forked worker may be read after its death.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final

from supervisor import channel as channels
from supervisor import fleet, lastwords, memory, rows, spawn
from supervisor.channel import Channel, Message
from supervisor.deaths import Deaths, cause_of, detail_of
from supervisor.desired import Abort, Drain, Kill, Policy, PoolSize, SlotAction, Spawn, Why
from supervisor.loop import Loop
from supervisor.oom import OomCounter
from supervisor.scoreboard import AbortReason, Row, Scoreboard
from supervisor.slot import Job, Slot, State
from supervisor.spawn import Death

REASONS = {Why.TIMEOUT: AbortReason.TIMEOUT, Why.DRAIN: AbortReason.DRAIN}

STACK_APART: Final = 0.02  # seconds; a stack is written in about one millisecond

# Starts a worker for a slot: (slot, birth, generation, the child's end). Returns its pid, 0 if that is not known yet,
# or None if it cannot be started. The socket stays the caller's to close.
Start = Callable[[Slot, int, int, Any], "int | None"]


@dataclass(slots=True)
class Workers:
    """All slots and what belongs to their processes: channels, rows, deaths, counts."""

    loop: Loop
    log: Any
    board: Scoreboard
    start: Start
    host: str
    nonce: str
    slots: dict[int, Slot] = field(default_factory=dict)
    deaths: Deaths = field(default_factory=Deaths)
    restarts: Counter[tuple[str, str]] = field(default_factory=Counter)
    error: str = ""  # what the last worker that failed to boot said
    proven: bool = False  # one was ready in this run
    _channels: dict[int, Channel] = field(default_factory=dict)
    _finished: Counter[str] = field(default_factory=Counter)  # jobs of the dead, a pool
    _unknown: dict[int, Death] = field(default_factory=dict)
    _oom: OomCounter = field(default_factory=OomCounter.find)
    _births: int = 0
    _to_dump: deque[int] = field(default_factory=deque)  # slots still to be asked for their stack by SIGUSR2
    _dump_at: float = 0.0
    _asked: dict[int, tuple[int, int]] = field(default_factory=dict)  # slot → birth, job: asked for its stack

    def lay_out(self, pools: tuple[PoolSize, ...]) -> None:
        self.slots = {slot.number: slot for slot in rows.lay_out(self.slots.values(), pools)}

    def clean_up(self, pools: tuple[PoolSize, ...]) -> None:
        """Give the rows of pools that are gone, and whose last worker has left, to others."""
        names = {pool.name for pool in pools}
        if any(slot.pool not in names and slot.state is State.EMPTY for slot in self.slots.values()):
            self.lay_out(pools)

    def by_pid(self, pid: int) -> Slot | None:
        return next((slot for slot in self.slots.values() if slot.pid == pid), None)

    def by_channel(self, channel: Channel) -> Slot | None:
        return next((self.slots[number] for number, mine in self._channels.items() if mine is channel), None)

    def act(self, action: SlotAction, policy: Policy, now: float) -> bool:
        """Carry out one action; False if it could not be done and nothing changed."""
        slot = self.slots[action.slot]
        match action:
            case Spawn():
                return self._spawn(slot, action, policy, now)
            case Drain():
                self.board.leave(slot.number)
                self._signal(slot, signal.SIGTERM)
            case Abort():
                self.board.abort(slot.number, action.number, REASONS[action.why])
                self._signal(slot, signal.SIGUSR1)
                self.log.info("abort", **_names(slot), job=action.number, cause=action.why.value)
            case Kill():
                if slot.state is not State.KILLED:
                    self.log.warning("kill", **_names(slot), cause=action.cause)
                if slot.pid:
                    spawn.kill_group(slot.pid, signal.SIGKILL)
        self.slots[slot.number] = fleet.applied(slot, action, policy, now)
        return True

    def _spawn(self, slot: Slot, action: Spawn, policy: Policy, now: float) -> bool:
        self.board.clear(slot.number)
        birth = self._births + 1
        try:
            ours, theirs = channels.pair()
        except OSError as error:
            self.log.error("worker not started", **_names(slot), error=str(error))
            return False
        try:
            pid = self.start(slot, birth, action.generation, theirs)
        finally:
            theirs.close()
        if pid is None:
            ours.close()
            return False
        self._births = birth
        self._channels[slot.number] = ours
        self.loop.watch(ours)
        self.slots[slot.number] = fleet.applied(slot, action, policy, now, birth).known(pid)
        return True

    def _signal(self, slot: Slot, number: int) -> None:
        if slot.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, number)

    def dump_stacks(self) -> None:
        """Have every worker write its Python stack, one after the other: a stack is many small writes, and all go to one log."""
        self._to_dump.extend(self.slots)

    def dump_next(self, now: float) -> None:
        """The next of them, if it is time. One that has not said hello would die of it."""
        while self._to_dump and now >= self._dump_at:
            slot = self.slots.get(self._to_dump.popleft())
            if slot is not None and slot.greeted is not None and slot.state is not State.KILLED:
                self._signal(slot, signal.SIGUSR2)
                self._dump_at = now + STACK_APART

    def wake_at(self) -> float:
        """When `dump_next` has something to do."""
        return self._dump_at if self._to_dump else inf

    def look(self) -> None:
        """Read from the rows what runs, and until when it may."""
        for slot in self.slots.values():
            if slot.state in (State.READY, State.DRAINING):
                row = self.board.glance(slot.number)
                job = None
                if row.birth == slot.birth and row.start_ns:
                    job = Job(row.number, _seconds(row.soft_ns), _seconds(row.hard_ns))
                beat = _seconds(row.beat_ns) if row.birth == slot.birth else inf
                self.slots[slot.number] = slot.running(job, beat)

    def ask_stacks(self, now: float) -> None:
        """Whoever nears its hard limit, and has been told of its soft one, is asked where it is, once a job: after the limit there is
        nobody to ask."""
        for slot in self.slots.values():
            job = slot.job
            if job is None or job.number != slot.aborted or job.hard_at - now >= lastwords.LEAD:
                continue
            if self._asked.get(slot.number) != (slot.birth, job.number):
                self._asked[slot.number] = (slot.birth, job.number)
                self._signal(slot, lastwords.STACK)

    def weigh(self) -> None:
        """Look at the memory of those whose memory is limited."""
        for slot in self.slots.values():
            if slot.limits.memory < inf and slot.state in (State.READY, State.DRAINING):
                self.slots[slot.number] = replace(slot, memory=memory.own(slot.pid, slot.limits.memory))

    def joined(self) -> int:
        """How many ready workers have reached Redis."""
        ready = [slot for slot in self.slots.values() if slot.state is State.READY]
        rows_ = [(slot.birth, self.board.read(slot.number)) for slot in ready]
        return sum(row.birth == birth and row.ready for birth, row in rows_)

    # What the processes say and what becomes of them.

    def read(self, slot: Slot, now: float) -> None:
        """All that is there on the slot's channel."""
        channel = self._channels[slot.number]
        for message, fds in channel.receive():
            for fd in fds:
                os.close(fd)
            self._heard(self.slots[slot.number], message, now)
        if channel.closed and self._channels.get(slot.number) is channel:
            self._hung_up(self.slots[slot.number], now)

    def _heard(self, slot: Slot, message: Message, now: float) -> None:
        match message.get("kind"):
            case "hello" | "born" if message.get("birth") != slot.birth:
                self.log.warning("a worker speaks for another birth", **_names(slot), said=message.get("birth"))
            case "born":
                slot = slot.known(message["pid"])
            case "hello":
                slot = slot.hello(message["pid"], now)
                if slot.state is State.READY:
                    self.proven = True
                    self.log.info("worker ready", **_names(slot))
            case "failed":
                self.error = str(message.get("error", ""))
                self.log.error("worker failed to start", **_names(slot), error=self.error)
            case kind:
                self.log.warning("unknown word of a worker", **_names(slot), kind=kind)
        self.slots[slot.number] = slot
        if slot.pid and (death := self._unknown.pop(slot.pid, None)) is not None:
            self.died(slot, death, now)
        elif slot.pid and slot.state is State.KILLED:
            spawn.kill_group(slot.pid, signal.SIGKILL)  # its number was not known when the verdict fell

    def _hung_up(self, slot: Slot, now: float) -> None:
        """End-of-file. Before hello it means: this spawn has failed."""
        self.loop.forget(self._channels.pop(slot.number))
        if slot.greeted is not None or slot.state is State.EMPTY:
            return
        if slot.pid:  # leaving, but not reaped
            spawn.kill_group(slot.pid, signal.SIGKILL)
            self.slots[slot.number] = slot.killed("boot", now)
        else:
            self._empty(slot, None, "boot", "no process, or it left without a word", now)

    def reap(self, pid: int, now: float) -> bool:
        """A dead child, not collected yet: False if it is none of ours. Its group is killed before its number is free."""
        slot = self.by_pid(pid)
        if slot is None:
            for starting in [slot for slot in self.slots.values() if slot.number in self._channels and not slot.pid]:
                self.read(starting, now)
            slot = self.by_pid(pid)
        elif slot.number in self._channels:
            self.read(slot, now)
            slot = self.by_pid(pid)
        if slot is not None:
            spawn.kill_group(pid, signal.SIGKILL)
            if (death := spawn.collect(pid)) is not None:
                self.died(slot, death, now)
            return True
        if not any(not slot.pid and slot.state is not State.EMPTY for slot in self.slots.values()):
            self._unknown.clear()
            return False
        if (death := spawn.collect(pid)) is not None:
            self._unknown[pid] = death
        return True

    def died(self, slot: Slot, death: Death, now: float) -> None:
        """The end of a process we know."""
        row = self.board.read(slot.number)
        counted = row if row.birth == slot.birth else None
        oom = death.signal == signal.SIGKILL and slot.state is not State.KILLED and bool(self._oom.rose())
        cause = cause_of(slot, death, running=counted is not None and counted.running, oom=oom)
        detail = detail_of(death)
        if slot.greeted is not None:
            self.deaths.add(self._worker_id(slot, counted), cause, detail, counted)
        self._empty(slot, death, cause, detail, now, counted)

    def _empty(
        self, slot: Slot, death: Death | None, cause: str, detail: str, now: float, row: Row | None = None
    ) -> None:
        event = self.log.info if cause == "exited" else self.log.warning
        job = {"job": row.job_id, "type": row.type} if row is not None and row.running else {}
        event("worker gone", **_names(slot), cause=cause, detail=detail, **job)
        self.restarts[slot.pool, cause] += 1
        if row is not None:
            self._finished[slot.pool] += row.done
        self.slots[slot.number] = slot.emptied(
            now,
            planned=death is not None and death.code == 0,
            in_job=row is not None and row.running,
            progress=self._progress(slot),
        )
        if slot.number in self._channels:
            self.loop.forget(self._channels.pop(slot.number))

    def _progress(self, dead: Slot) -> int:
        """Jobs its pool has finished in this run."""
        living = [slot for slot in self.slots.values() if slot.pool == dead.pool and slot.number != dead.number]
        rows_ = [(slot, self.board.read(slot.number)) for slot in living if slot.greeted is not None]
        return self._finished[dead.pool] + sum(row.done for slot, row in rows_ if row.birth == slot.birth)

    def _worker_id(self, slot: Slot, row: Row | None) -> str:
        if row is not None and row.worker_id:
            return row.worker_id
        return f"{self.host}.{self.nonce}.{slot.pool}-{slot.index}.{slot.birth}-{slot.pid}-0"


def _names(slot: Slot) -> dict[str, Any]:
    return {"role": "worker", "slot": slot.name, "pid": slot.pid, "generation": slot.generation}


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / 1e9 if nanoseconds else inf
