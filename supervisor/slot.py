"""One slot of the fleet: its state and what each event makes of it. Pure: no process, no clock, no I/O.

Not the process itself (that is the shell's) and not the decision what to do (that is `fleet.plan`): events only
change facts here. Called by `fleet` and by the master, which reports what it saw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import inf

from supervisor.backoff import Backoff
from supervisor.desired import UNLIMITED, Limits

FRESH = Backoff()
KILL_REPEAT = 2.0  # seconds until a kill that had no effect is sent again (the number of the process may be new to us)
SHORT_LIFE = 1.0  # seconds; a planned exit sooner than this with nothing done is no recycling but a loop
LONG_LIFE = 60.0  # seconds; a death after that does not belong to the row of deaths before it

# EMPTY     no process. Perhaps waits out a backoff (`backoff.not_before`): it then still counts as taken in its pool.
# STARTING  a process was asked for and has not said hello. Its pid may be unknown, and it may not exist yet: the slot
#           leaves by hello, by end-of-file (spawn failed) or by its deadline, never because "it must be there by now".
# READY     said hello. Does not tell that it runs a job (see `job`), nor that it reached Redis (that is in its row).
# DRAINING  was sent SIGTERM, once. Takes no new job, may run one for as long as the limits allow; still a process.
# KILLED    was sent SIGKILL and has not been reaped. Until then the slot is taken, however long the kernel needs.


class State(Enum):
    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Job:
    """What a slot runs, as its row said at the last look. Times: monotonic seconds, inf = no limit."""

    number: int
    soft_at: float = inf
    hard_at: float = inf


@dataclass(frozen=True, slots=True)
class Slot:
    """Facts about one place of a pool. `number` is its row of the scoreboard; times are monotonic seconds."""

    number: int
    pool: str
    index: int
    state: State = State.EMPTY
    since: float = 0.0  # when it entered this state
    birth: int = 0
    pid: int = 0  # 0: not known (yet)
    generation: int = 0
    greeted: float | None = None  # when this process said hello; None: it has not
    limits: Limits = UNLIMITED
    deadline: float = inf  # STARTING: say hello until then. KILLED: kill again then
    job: Job | None = None
    beat: float = inf  # when its loop last turned; inf: not known
    memory: int = 0  # bytes of its own, at the last look
    aborted: int = 0  # number of the job that was last told to stop
    kill_at: float = inf  # the drain told it to stop now; what is left then is killed
    cause: str = ""  # KILLED: why
    backoff: Backoff = FRESH
    failed_generation: int = 0  # generation of the last process that did not become ready; 0 after one did
    progress: int = 0  # jobs the pool had finished at this slot's last death

    @property
    def name(self) -> str:
        return f"{self.pool}/{self.index}"

    @property
    def alive(self) -> bool:
        """Counts as capacity, now or soon: starting or ready."""
        return self.state in (State.STARTING, State.READY)

    def spawned(self, birth: int, generation: int, now: float, limits: Limits) -> Slot:
        if self.state is not State.EMPTY:
            raise SlotTaken(self.name, self.state, self.pid)
        return Slot(
            self.number,
            self.pool,
            self.index,
            State.STARTING,
            since=now,
            birth=birth,
            generation=generation,
            limits=limits,
            deadline=now + limits.start,
            backoff=self.backoff,
            failed_generation=self.failed_generation,
            progress=self.progress,
        )

    def known(self, pid: int) -> Slot:
        """The process has a number; it may still have to say hello."""
        return replace(self, pid=pid)

    def hello(self, pid: int, now: float) -> Slot:
        if self.state is State.STARTING:
            return replace(self, state=State.READY, since=now, pid=pid, greeted=now, deadline=inf, failed_generation=0)
        return replace(self, pid=pid, greeted=now)  # killed before it spoke: the number is new, the verdict is not

    def running(self, job: Job | None, beat: float = inf) -> Slot:
        return self if (job, beat) == (self.job, self.beat) else replace(self, job=job, beat=beat)

    def silent_at(self, grace_until: float) -> float:
        """When it has been silent for too long outside of a job. Of a stall that all saw nobody is guilty."""
        return inf if self.job is not None else max(self.beat, grace_until) + self.limits.silence

    def drained(self, now: float) -> Slot:
        return replace(self, state=State.DRAINING, since=now)

    def told_to_abort(self, number: int) -> Slot:
        return replace(self, aborted=number)

    def told_to_stop(self, number: int, kill_at: float) -> Slot:
        return replace(self, aborted=number, kill_at=min(self.kill_at, kill_at))

    def killed(self, cause: str, now: float) -> Slot:
        if self.state is State.KILLED:
            return replace(self, deadline=now + KILL_REPEAT)
        return replace(self, state=State.KILLED, since=now, cause=cause, deadline=now + KILL_REPEAT)

    def emptied(self, now: float, *, planned: bool, in_job: bool, progress: int) -> Slot:
        """The process is gone. `planned`: exit code 0. `in_job`: its row said that a job ran (the job is charged, not
        the slot). `progress`: jobs its pool has finished so far in this run of the master."""
        progressed = progress > self.progress or (self.greeted is not None and now - self.greeted >= LONG_LIFE)
        backoff, failed_generation = self.backoff, self.failed_generation
        if self.greeted is None:
            if self.cause in ("", "boot"):  # else we killed it for reasons of our own
                backoff, failed_generation = backoff.failed(now), self.generation
        elif self.state is State.DRAINING or in_job or self.cause:
            backoff = FRESH if progressed else replace(backoff, not_before=now)
        elif planned and (progressed or now - self.greeted >= SHORT_LIFE):
            backoff = FRESH
        else:
            # A death with nothing to blame but the worker. The first in a row is replaced at once.
            backoff = (FRESH if progressed else backoff).failed(now, free=1)
        return Slot(
            self.number,
            self.pool,
            self.index,
            since=now,
            backoff=backoff,
            failed_generation=failed_generation,
            progress=max(progress, self.progress),
        )


class SlotTaken(Exception):
    """A second process was asked for in a slot: a bug in the plan."""

    def __init__(self, slot: str, state: State, pid: int) -> None:
        self.slot, self.state, self.pid = slot, state, pid
        super().__init__(
            f"slot {slot} is {state.value} (pid {pid}); report this as a bug, a slot never has two processes"
        )
