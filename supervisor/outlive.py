"""Workers without a master: who still lives, who has to be ended, and why.

Not the steward's loop (`supervisor.roles.steward`, the only caller), which goes on with its duties meanwhile and leaves
after the last worker. The master's own enforcement is in `supervisor.fleet`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import asdict

from supervisor import identity, spawn
from supervisor.recovery import Told
from supervisor.scoreboard import Row


def end_overdue(rows: Iterable[Row], now: float, *, late: bool) -> tuple[int, list[Told]]:
    """How many workers live; those over their hard limit (or all of them, if it is `late`) are killed, and told of as
    the master would. `now`: monotonic seconds."""
    living, ended = 0, []
    for row in rows:
        if not row.worker_id or identity.start_time(row.pid) != row.starttime:
            continue
        living += 1
        over = row.hard_ns and row.running and row.hard_ns < time.monotonic_ns()
        if late or over:
            spawn.kill_group(row.pid, signal.SIGKILL)
            ended.append(Told(-row.birth, row.worker_id, "hard_limit" if over else "drain", "", asdict(row), now))
    return living, ended
