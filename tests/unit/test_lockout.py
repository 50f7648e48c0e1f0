"""When a worker that is not let in any more gives up: only if it should leave anyway, and not at once."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.errors import Fenced, JobQueueError, ServerRefused, Unavailable
from supervisor.lockout import PATIENCE, Lockout


class World:
    def __init__(self, error: JobQueueError | None) -> None:
        self.error, self.leaving, self.now = error, True, 100.0
        self.lines: list[str] = []
        self.connect = Lockout(self.open, lambda: self.leaving, self, lambda: self.now)

    def open(self) -> str:
        if self.error is not None:
            raise self.error
        return "session"

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(event)


@pytest.mark.parametrize("code", ["WRONGPASS", "NOAUTH", "NOPERM"])
def test_a_leaving_worker_gives_up_after_its_patience(code: str) -> None:
    world = World(ServerRefused(f"{code} no"))
    with pytest.raises(ServerRefused):
        world.connect()
    world.now += PATIENCE
    with pytest.raises(Fenced):
        world.connect()
    assert len(world.lines) == 1


@pytest.mark.parametrize("error", [ServerRefused("LOADING x"), Unavailable("here", "gone")])
def test_an_outage_is_waited_for(error: JobQueueError) -> None:
    world = World(error)
    for _ in range(3):
        with pytest.raises(type(error)):
            world.connect()
        world.now += PATIENCE


def test_a_worker_that_should_stay_stays() -> None:
    world = World(ServerRefused("WRONGPASS no"))
    world.leaving = False
    for _ in range(3):
        with pytest.raises(ServerRefused):
            world.connect()
        world.now += PATIENCE


def test_time_counts_from_the_last_refusal_in_a_row() -> None:
    world = World(ServerRefused("WRONGPASS no"))
    with pytest.raises(ServerRefused):
        world.connect()
    world.error = None
    assert world.connect() == "session"
    world.now, world.error = world.now + PATIENCE, ServerRefused("WRONGPASS no")
    with pytest.raises(ServerRefused):
        world.connect()
