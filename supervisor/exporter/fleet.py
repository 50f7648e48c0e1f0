"""What the exporter knows of this host's processes, and the verdicts made of it: workers by state, busy, live, ready. Pure.

Not asking anybody: facts come from the master's status messages and from scoreboard rows, time is an argument. Used
by `supervisor.exporter.watch` (which looks) and `supervisor.exporter.app` (which answers).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.scoreboard import Row

STATUS_FRESH = 3.0
"""Seconds after which a silent master counts as stuck; it speaks at least once a second."""
ROLE_GRACE = 90.0
"""Seconds a role may be down: the master replaces it, with backoff, and gives it 60 s to start."""
OVERDUE = 10.0
"""Seconds past its hard limit after which a job that still runs shows that nobody enforces limits."""
WINDOW = 15.0
"""Seconds the busy ratio looks back."""

_UNSOUND = frozenset({"starting", "killed", "backoff"})
# As the master says it, except that a ready one is shown as idle or busy by its row. backoff: a worker is missing and
# its slot waits to try again; any other empty slot is not reported.
_STATES = ("starting", "idle", "busy", "draining", "killed", "backoff")


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as the master's last status shows it: with a process, or waiting out a backoff."""

    slot: int
    pool: str
    index: int
    state: str
    pid: int
    birth: int
    generation: int = 0
    since: float = 0.0

    @property
    def occupied(self) -> bool:
        return self.state != "backoff"


@dataclass(frozen=True, slots=True)
class Status:
    """The master's last word. `at`: monotonic seconds when it came."""

    at: float
    ready: int
    desired: int
    slots: tuple[Slot, ...]
    restarts: tuple[tuple[str, str, int], ...]
    reloads: tuple[tuple[str, int], ...]
    roles: tuple[tuple[str, int, str], ...]  # name, generation, state
    generation: int
    draining: bool
    last_reload: Mapping[str, Any] | None = None


def parse(message: Mapping[str, Any], at: float) -> Status:
    """A status message as facts. Raises KeyError, TypeError or ValueError if it is none."""
    slots = tuple(
        Slot(
            int(slot["slot"]),
            str(slot["pool"]),
            int(slot["index"]),
            str(slot["state"]).lower(),
            int(slot["pid"] or 0),
            int(slot["birth"] or 0),
            int(slot.get("generation") or 0),
            float(slot.get("since") or 0.0),
        )
        for slot in message["slots"]
    )
    return Status(
        at,
        int(message["ready"]),
        int(message["desired"]),
        slots,
        tuple((str(pool), str(cause), int(n)) for pool, cause, n in message["restarts"]),
        tuple((str(result), int(n)) for result, n in message["reloads"]),
        tuple(
            (str(role["name"]), int(role.get("generation", 0)), str(role["state"]).lower()) for role in message["roles"]
        ),
        int(message["generation"]),
        bool(message["draining"]),
        dict(message["last_reload"]) if message.get("last_reload") else None,
    )


def workers(status: Status, rows: Mapping[int, Row], pools: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """(pool, state) → slots. Every pool has every state, so a number that falls to 0 is seen to."""
    counts = dict.fromkeys(((pool, state) for pool in pools for state in _STATES), 0)
    for slot in status.slots:
        state = slot.state
        if state == "ready":
            row = rows.get(slot.slot)
            state = "busy" if row and row.birth == slot.birth and row.running else "idle"
        counts[slot.pool, state] = counts.get((slot.pool, state), 0) + 1
    return counts


@dataclass(slots=True)
class Busy:
    """Share of time that a pool's workers spent in handlers, over the last 15 s, from a look a second."""

    _before: dict[int, tuple[int, int]] = field(default_factory=dict)
    _looked: int = 0
    _window: deque[tuple[int, dict[str, tuple[int, int]]]] = field(default_factory=deque)

    def look(self, status: Status, rows: Mapping[int, Row], now_ns: int) -> None:
        """Take one sample: what each worker's busy time grew by since the last one."""
        elapsed, now_busy = now_ns - self._looked, {}
        shares: dict[str, tuple[int, int]] = {}
        for slot in status.slots:
            row = rows.get(slot.slot)
            if row is None or not slot.occupied or row.birth != slot.birth:
                continue
            total = row.busy_ns + (now_ns - row.start_ns if row.running else 0)
            now_busy[slot.slot] = (slot.birth, total)
            birth, before = self._before.get(slot.slot, (0, 0))
            if birth == slot.birth and self._looked:
                busy, time = shares.get(slot.pool, (0, 0))
                shares[slot.pool] = (busy + min(max(total - before, 0), elapsed), time + elapsed)
        self._before, self._looked = now_busy, now_ns
        self._window.append((now_ns, shares))
        while self._window[0][0] < now_ns - WINDOW * 1e9:
            self._window.popleft()

    def ratios(self, pools: tuple[str, ...]) -> dict[str, float]:
        """Pool → 0.0 … 1.0."""
        busy: Counter[str] = Counter()
        time: Counter[str] = Counter()
        for _, shares in self._window:
            for pool, (busy_ns, time_ns) in shares.items():
                busy[pool] += busy_ns
                time[pool] += time_ns
        return {pool: busy[pool] / time[pool] if time[pool] else 0.0 for pool in pools}


@dataclass(slots=True)
class Patience:
    """Since when each thing is wrong: a verdict that needs a state to last."""

    _since: dict[str, float] = field(default_factory=dict)

    def lasting(self, wrong: Mapping[str, float], now: float) -> list[str]:
        """Of the things `wrong` now, those that have been for longer than their seconds."""
        self._since = {what: self._since.get(what, now) for what in wrong}
        return [what for what, grace in wrong.items() if now - self._since[what] > grace]


def wrong_for_long(status: Status, start_timeout: float) -> dict[str, float]:
    """Things that may be so for a while only, each with that while in seconds. Redis being down is none of them.

    A role that goes from starting to backoff and back is one thing that lasts, so its state is not part of the name.
    """
    wrong = {
        f"{name} of generation {generation} is not ready": ROLE_GRACE
        for name, generation, state in status.roles
        if state in _UNSOUND
    }
    if status.desired and not status.ready and not status.draining:
        wrong["no worker is ready"] = start_timeout + ROLE_GRACE
    return wrong


def not_live(status: Status | None, rows: Mapping[int, Row], lasting: list[str], now: float) -> list[str]:
    """Why a supervisor of supervisors should start all of this again; empty if it should not."""
    if status is None:
        return ["the master has not reported yet"]
    reasons = list(lasting)
    if now - status.at > STATUS_FRESH:
        reasons.append(f"the master has been silent for {now - status.at:.1f} s")
    for slot in status.slots:
        row = rows.get(slot.slot)
        if row and row.birth == slot.birth and row.running and row.hard_ns and now > row.hard_ns / 1e9 + OVERDUE:
            reasons.append(f"{slot.pool}/{slot.index} is {now - row.hard_ns / 1e9:.0f} s past its hard limit")
    return reasons


def not_ready(status: Status | None, rows: Mapping[int, Row], pools: tuple[str, ...], redis: str | None) -> list[str]:
    """Why this host should get no work now; empty if it should. `redis`: what is wrong with it, None if it answers.

    Enough workers: at least one of each pool and half of all have joined their queues. One crash is no outage.
    """
    reasons = [redis] if redis else []
    if status is None:
        return [*reasons, "the master has not reported yet"]
    if status.draining:
        reasons.append("draining")
    joined: Counter[str] = Counter()
    for slot in status.slots:
        row = rows.get(slot.slot)
        if slot.state == "ready" and row and row.birth == slot.birth and row.ready:
            joined[slot.pool] += 1
    reasons += [f"no worker of pool {pool} is ready" for pool in pools if not joined[pool]]
    if 2 * joined.total() < status.desired:
        reasons.append(f"{joined.total()} of {status.desired} workers are ready")
    return reasons
