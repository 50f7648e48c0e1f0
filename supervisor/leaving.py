"""How far the master is with leaving: the stage, what was put back, and the code to leave with.

Not the order of the stages (`supervisor.shutdown`, pure) and not who asked for it (`supervisor.master`, the only caller).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from supervisor import shutdown
from supervisor.shutdown import Stage

EXIT_DONE: Final = 0
EXIT_JOBS_LEFT: Final = 75
EXIT_UNUSABLE: Final = 78


@dataclass(slots=True)
class Leaving:
    """`left`: what the last sweep could not put back; None: it is not over, -1: nobody knows."""

    stage: Stage = Stage.RUNNING
    exit_code: int = EXIT_DONE
    left: int | None = None
    sweep_until: float = inf

    def advance(
        self, now: float, *, stopping: bool, workers_gone: bool, pointless: bool, present: frozenset[str]
    ) -> bool:
        """On to the stage that follows from these facts; whether that is another one.

        `pointless`: nobody ever reached a queue, so there is nothing to sweep. `present`: roles that have a process.
        """
        sweep_over = self._sweep_is_over(now, pointless)
        stage = shutdown.advance(self.stage, shutdown.Facts(stopping, workers_gone, sweep_over, present))
        if stage is self.stage:
            return False
        if self.stage <= Stage.SWEEP < stage and self.left and self.exit_code == EXIT_DONE:
            self.exit_code = EXIT_JOBS_LEFT
        if stage is Stage.SWEEP:
            self.sweep_until = now + shutdown.SWEEP_TIMEOUT
        self.stage = stage
        return True

    def _sweep_is_over(self, now: float, pointless: bool) -> bool:
        if self.left is None and not pointless and now >= self.sweep_until:
            self.left = -1
        return self.left is not None or pointless
