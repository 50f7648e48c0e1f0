"""Which places there are: a row of the scoreboard for every worker a pool may have at once. Pure.

Not the plan: nothing is started or stopped here. Called by the master when the desired pools change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from supervisor.desired import PoolSize
from supervisor.slot import Slot, State

ROWS = 1024  # of the scoreboard


def surge(processes: int) -> int:
    """How many workers a reload may start beside those it replaces."""
    return max(1, processes // 4)


def lay_out(slots: Iterable[Slot], pools: Sequence[PoolSize], rows: int = ROWS) -> list[Slot]:
    """The slots, with a row for each place the pools may need: their size, the surge, and as many again for workers
    of an older generation that still finish a long job. Rows are given up only when empty and not wanted."""
    total = sum(pool.processes for pool in pools)
    spare = max(0, rows - total) // max(1, len(pools))
    places = {
        (pool.name, index)
        for pool in pools
        for index in range(pool.processes + min(surge(pool.processes) + pool.processes, spare))
    }
    kept = [slot for slot in slots if slot.state is not State.EMPTY or (slot.pool, slot.index) in places]
    taken = {slot.number for slot in kept}
    free = (number for number in range(rows) if number not in taken)
    new = sorted(places - {(slot.pool, slot.index) for slot in kept}, key=lambda place: (place[1], place[0]))
    # When rows run out (old pools still draining) the rest follows at the next call.
    kept += [Slot(number, name, index) for (name, index), number in zip(new, free, strict=False)]
    order = {pool.name: place for place, pool in enumerate(pools)}
    return sorted(kept, key=lambda slot: (order.get(slot.pool, len(order)), slot.index))
