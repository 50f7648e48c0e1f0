"""What became of a worker: the cause of its death, and the list of deaths the steward has not acknowledged yet.

Not recovery: nothing here knows Redis. Called by the master, which repeats the list to every new steward.
"""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass, field
from typing import Any

from supervisor.scoreboard import Row
from supervisor.slot import Slot, State
from supervisor.spawn import Death

KEPT = 2000  # beyond that the oldest are dropped: the steward's sweep finds them by itself


def cause_of(slot: Slot, death: Death, *, running: bool, oom: bool) -> str:
    """boot, superseded, hard_limit, memory, drain (killed by us, and why), oom, exited (planned), else crashed."""
    if death.signal == signal.SIGKILL and slot.state is State.KILLED:
        return slot.cause
    if death.signal == signal.SIGKILL and oom:
        return "oom"
    if slot.greeted is None:
        return "boot"
    return "exited" if death.code == 0 and not running else "crashed"


def detail_of(death: Death) -> str:
    if death.signal is None:
        return f"exit code {death.code}"
    try:
        return f"signal {signal.Signals(death.signal).name}"
    except ValueError:
        return f"signal {death.signal}"


@dataclass(slots=True)
class Deaths:
    """Deaths to be told, oldest first, by a number that only grows."""

    _last: int = 0
    _untold: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, worker: str, cause: str, detail: str, row: Row | None) -> None:
        """`row` as it was when the worker died; None if it never wrote one."""
        self._last += 1
        # Killed at the end of a boot it had just finished: it held nothing, whatever the reason.
        told = "exited" if cause in ("boot", "superseded") else cause
        self._untold[self._last] = {
            "kind": "died",
            "seq": self._last,
            "worker": worker,
            "cause": told,
            "detail": detail,
            "row": asdict(row) if row is not None else None,
        }
        if len(self._untold) > KEPT:
            del self._untold[next(iter(self._untold))]

    def acknowledged(self, seq: int) -> None:
        self._untold.pop(seq, None)

    def after(self, seq: int) -> list[tuple[int, dict[str, Any]]]:
        """The unacknowledged ones later than `seq`."""
        return [(number, message) for number, message in self._untold.items() if number > seq]
