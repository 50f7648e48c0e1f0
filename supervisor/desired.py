"""How the fleet should be, and the words in which the plan says what to do about it. Data only.

Not the plan itself, that is `supervisor.fleet`. Used by it, by the master, which carries the actions out, and by tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

# RUN    keep every pool at its size.
# DRAIN  start nothing; workers finish what they run, until `stop_at`.
# ABORT  start nothing; what runs is aborted now (`stop_at` is now).


class Stop(Enum):
    RUN = "run"
    DRAIN = "drain"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may do that runs no job, or whatever it runs. `start`: seconds it has to say hello. `silence`:
    seconds its loop may stand still outside of a job. `memory`: bytes of its own."""

    start: float = 60.0
    silence: float = inf
    memory: float = inf


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class PoolSize:
    """One pool as it should be, and what its processes may do."""

    name: str
    processes: int
    limits: Limits = UNLIMITED


@dataclass(frozen=True, slots=True)
class Desired:
    """How things should be. `previous` is there while a generation rolls out: what to go back to at its first bad boot,
    and never itself a generation that did not prove good."""

    generation: int
    pools: tuple[PoolSize, ...]
    previous: Desired | None = None
    stop: Stop = Stop.RUN
    stop_at: float = inf  # with DRAIN or ABORT: monotonic seconds
    spawnable: frozenset[int] = frozenset()  # generations that can start a worker now (their forkserver is ready)
    proven: bool = False  # a worker was ready once in this run of the master


@dataclass(frozen=True, slots=True)
class Policy:
    """Constants, and the one moment that concerns all deadlines: until `grace_until` none of them counts as passed,
    because the machine slept or the master itself was stopped, and everybody else needs a moment too."""

    abort_grace: float = 2.0
    boot_attempts: int = 3
    grace_until: float = -inf


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker in this (empty) slot."""

    slot: int
    generation: int
    limits: Limits = UNLIMITED


@dataclass(frozen=True, slots=True)
class Drain:
    """Send SIGTERM, this once."""

    slot: int


class Why(Enum):
    """Why a running job is to be aborted."""

    TIMEOUT = "timeout"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Abort:
    """Tell the worker to abort job `number` (0: it runs none, as far as we know)."""

    slot: int
    number: int
    why: Why


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to the process group. Causes: boot, superseded, hard_limit, hung, memory, drain."""

    slot: int
    cause: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """The generation that rolls out has a worker that did not become ready: the previous one is desired again."""

    generation: int
    slot: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The generation has replaced all others: there is nothing to go back to any more."""

    generation: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No worker was ever ready and this slot failed again and again: unusable (exit 78)."""

    slot: int


SlotAction = Spawn | Drain | Abort | Kill
Action = SlotAction | Rollback | Settled | GiveUp
