"""What the master says of itself: to the exporter, to systemd, in its title, in the log when asked. Pure, but the title.

Not metrics: the exporter makes them of this. Called by the master.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor import fleet
from supervisor.desired import Desired, Stop
from supervisor.rolekeeping import Role, RoleState
from supervisor.slot import Slot, State


def message(
    slots: Iterable[Slot],
    desired: Desired,
    roles: Iterable[Role],
    restarts: Mapping[tuple[str, str], int],
    reloads: Counter[str],
    now: float,
    last_reload: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """For the exporter. Slots without a process are left out unless they wait out a backoff."""
    slots = list(slots)
    return {
        "kind": "status",
        "ready": fleet.ready(slots),
        "desired": size(desired),
        "slots": [slot_state(slot) for slot in slots if slot.state is not State.EMPTY or slot.backoff.waiting(now)],
        "restarts": [[pool, cause, count] for (pool, cause), count in restarts.items()],
        "reloads": [[result, count] for result, count in reloads.items()],
        "roles": [role_state(role) for role in roles],
        "last_reload": last_reload,
        "generation": desired.generation,
        "draining": desired.stop is not Stop.RUN,
    }


def slot_state(slot: Slot) -> dict[str, Any]:
    """`since`: monotonic seconds; `state`: a State, or backoff."""
    return {
        "slot": slot.number,
        "pool": slot.pool,
        "index": slot.index,
        "state": "backoff" if slot.state is State.EMPTY else slot.state.value,
        "pid": slot.pid,
        "generation": slot.generation,
        "birth": slot.birth,
        "since": slot.since,
    }


def role_state(role: Role) -> dict[str, Any]:
    state = "backoff" if role.state is RoleState.EMPTY else role.state.value
    return {"name": role.name, "pid": role.pid, "state": state, "generation": role.generation}


def size(desired: Desired) -> int:
    return sum(pool.processes for pool in desired.pools)


def line(slots: Iterable[Slot], desired: Desired, joined: int, *, reloading: bool, problem: str = "") -> str:
    """One line for `systemctl status`: ready 4/4, generation 3. `problem`: why the last reload changed nothing."""
    slots = list(slots)
    ready = fleet.ready(slots)
    parts = [f"ready {ready}/{size(desired)}", f"generation {desired.generation}"]
    if joined < ready:
        parts.append(f"{ready - joined} waiting for Redis")
    if reloading:
        parts.append("reloading")
    if desired.stop is not Stop.RUN:
        parts.append("draining" if desired.stop is Stop.DRAIN else "aborting")
    if problem and not reloading:
        parts.append(problem)
    return ", ".join(parts)


def set_title(title: str) -> None:
    """What `ps` shows; a title is never worth an error."""
    with contextlib.suppress(Exception):
        from setproctitle import setproctitle

        setproctitle(title)
