"""The order in which everything leaves, as a stage derived from facts. Pure.

Not the drain of the workers themselves, that is the plan's (`supervisor.fleet`). Called by the master every turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

SWEEP_TIMEOUT = 10.0  # seconds the steward has for its last sweep, restarts of it included

# RUNNING   nobody asked to stop.
# WORKERS   workers leave, or are made to; every other role stays, they need it.
# SWEEP     no worker is left; the steward puts back whatever they held.
# STEWARD   the steward and the forkservers leave.
# EXPORTER  the exporter leaves: until here it answered who is still draining.
# SERVER    the embedded server leaves, last: it writes its file.
# GONE      no child is left.


class Stage(IntEnum):
    RUNNING = 0
    WORKERS = 1
    SWEEP = 2
    STEWARD = 3
    EXPORTER = 4
    SERVER = 5
    GONE = 6


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides about the next stage. `present`: names of the roles that have a process."""

    stopping: bool
    workers_gone: bool
    sweep_over: bool
    present: frozenset[str]


def advance(stage: Stage, facts: Facts) -> Stage:
    """The stage now. Stages only follow one another; several may pass at once."""
    while stage is not Stage.GONE and _is_over(stage, facts):
        stage = Stage(stage + 1)
    return stage


def _is_over(stage: Stage, facts: Facts) -> bool:
    match stage:
        case Stage.RUNNING:
            return facts.stopping
        case Stage.WORKERS:
            return facts.workers_gone
        case Stage.SWEEP:
            return facts.sweep_over
        case Stage.STEWARD:
            return not facts.present & {"steward", "forkserver"}
        case Stage.EXPORTER:
            return "exporter" not in facts.present
        case Stage.SERVER:
            return not facts.present
        case Stage.GONE:
            return False
        case _:
            assert_never(stage)


def belongs(name: str, stage: Stage) -> bool:
    """Whether a role is still wanted in this stage."""
    last = {"forkserver": Stage.WORKERS, "steward": Stage.SWEEP, "exporter": Stage.STEWARD, "redis": Stage.EXPORTER}
    return stage <= last[name]
