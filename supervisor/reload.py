"""A reload from SIGHUP to its end: read, prepare beside, roll, and either settled or rolled back. Every end is said once.

Not the roll itself: that is the plan's. Called by the master; a method that changes what is desired returns it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from supervisor import fleet
from supervisor.desired import Desired
from supervisor.generation import Generations, ReloadRefused, exporter_part
from supervisor.notify import Notifier
from supervisor.settings import Settings
from supervisor.workers import Workers

MOST_SAID = 4000  # characters of an error that the dashboard is told; the log has all of it


@dataclass(slots=True)
class Reload:
    """`going`: between RELOADING and the READY that ends it. `status` gives the line that goes with that READY.

    `problem`: why the last reload changed nothing, in one line; empty if it did.
    """

    generations: Generations
    load: Callable[[], Settings]
    notifier: Notifier
    log: Any
    status: Callable[[], str]
    going: bool = False
    problem: str = ""

    def begin(self, desired: Desired, now: float) -> None:
        """Read the file and prepare the next generation; on any fault everything stays as it is."""
        self.notifier.reloading()
        self.going = True
        try:
            settings = self.load()
            current = self.generations[desired.generation].settings
            generation = self.generations.prepare(settings, current, now)
        except ReloadRefused as error:
            self._end("failed", desired, "reload failed", str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the file must not reach the workers
            self._end("failed", desired, "reload failed", str(error) or repr(error))
        else:
            self.log.info("reload", generation=generation.number)
            self.forget(desired)

    def late(self, desired: Desired) -> None:
        """The candidate's time is over."""
        self.failed(desired, f"not ready in time: its {' and its '.join(sorted(self.generations.lacks))}")

    def failed(self, desired: Desired, error: str) -> None:
        """A role of the candidate did not prove good."""
        self.generations.candidate = None
        self._end("failed", desired, "reload failed", error)

    def roll(self, desired: Desired) -> Desired:
        """The candidate's roles are good: from here on the plan swaps the workers."""
        return self.generations.promote(desired)

    def rolled_back(self, desired: Desired, workers: Workers) -> Desired:
        """A worker of the new generation did not become ready."""
        if desired.previous is None:
            raise ValueError("there is nothing to roll back to")
        bad = desired.generation
        workers.slots = {slot.number: slot for slot in fleet.rolled_back(workers.slots.values(), bad)}
        desired = desired.previous
        self._end("rolled_back", desired, "reload rolled back", workers.error or "see above", bad)
        return desired

    def settled(self, desired: Desired) -> Desired:
        """All workers are of the new generation."""
        desired = replace(desired, previous=None)
        new, old = self.generations[desired.generation], self.generations[self.generations.exporter]
        if exporter_part(new.settings) != exporter_part(old.settings):
            self.generations.exporter = new.number
        self.log.follow(new.settings)
        self._end("ok", desired, "reloaded")
        return desired

    def _end(self, result: str, desired: Desired, event: str, error: str = "", generation: int = 0) -> None:
        self.generations.results[result] += 1
        self.problem = f"{event}: {_cause(error)}" if error else ""
        self.generations.ended = {"result": result, "at": time.time(), "error": error[-MOST_SAID:]}
        if error:
            self.log.error(event, generation=generation or desired.generation, error=error)
        else:
            self.log.info(event, generation=desired.generation)
        if desired.previous is None and self.generations.candidate is None:  # else a newer one is still going
            self.going = False
            self.forget(desired)
            self.notifier.ready(self.status())

    def forget(self, desired: Desired) -> None:
        """Drop the generations nobody needs any more; the embedded server has its settings from the first."""
        needed = {1, desired.generation, self.generations.exporter}
        if desired.previous is not None:
            needed.add(desired.previous.generation)
        if self.generations.candidate is not None:
            needed.add(self.generations.candidate)
        self.generations.forget_all_but(needed)


def _cause(error: str) -> str:
    """The line that tells most: a file's first fault, a traceback's last line."""
    lines = [line.strip() for line in error.strip().splitlines() if line.strip()]
    return lines[-1 if lines[0].startswith("Traceback") else 0][:200] if lines else ""
