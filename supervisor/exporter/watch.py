"""The exporter's eyes on this host: keeps the master's last status, looks at the scoreboard. A thin shell around `fleet`.

Not Redis (`probe`) and not HTTP (`app`). Called from the event loop only; nothing here waits.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from supervisor.exporter import fleet
from supervisor.exporter.fleet import Busy, Patience, Status
from supervisor.scoreboard import Row, Scoreboard
from supervisor.settings import Settings

_log = logging.getLogger("jqd.exporter")


class Watch:
    """What is known now, and the verdicts."""

    def __init__(self, settings: Settings, board: Scoreboard) -> None:
        self.pools = tuple(pool.name for pool in settings.pools)
        self._start_timeout = max((pool.start_timeout for pool in settings.pools), default=60.0)
        self._board = board
        self._busy, self._patience = Busy(), Patience()
        self._lasting: list[str] = []
        self.status: Status | None = None

    def heard(self, message: dict[str, Any]) -> None:
        """A status message came."""
        try:
            self.status = fleet.parse(message, time.monotonic())
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("status message not understood: %r", error, extra={"event": "status_unreadable"})

    def tick(self) -> None:
        """Once a second."""
        if self.status is not None:
            self._busy.look(self.status, self.rows(), time.monotonic_ns())
            wrong = fleet.wrong_for_long(self.status, self._start_timeout)
            self._lasting = self._patience.lasting(wrong, time.monotonic())

    def rows(self) -> dict[int, Row]:
        """The row of each occupied slot; it counts only where its birth is the slot's."""
        slots = self.status.slots if self.status else ()
        return {slot.slot: self._board.read(slot.slot) for slot in slots if slot.occupied}

    def alive(self) -> frozenset[int] | None:
        """Slots with a process; None: not known yet."""
        return frozenset(slot.slot for slot in self.status.slots if slot.occupied) if self.status else None

    def workers(self) -> dict[tuple[str, str], int]:
        return fleet.workers(self.status, self.rows(), self.pools) if self.status else {}

    def busy(self) -> dict[str, float]:
        return self._busy.ratios(self.pools)

    def not_live(self) -> list[str]:
        return fleet.not_live(self.status, self.rows(), self._lasting, time.monotonic())

    def not_ready(self, redis: str | None) -> list[str]:
        return fleet.not_ready(self.status, self.rows(), self.pools, redis)
