"""At-least-once under random histories: every accepted job ends exactly once, and nothing is left anywhere."""

from __future__ import annotations

import pytest

from tests.queue.backends import Backend, MemoryBackend
from tests.queue.world import QUEUES, World

JOBS = 60


def check(world: World) -> None:
    world.run(1600)
    assert world.never_ended() == 0, "an accepted job was lost"
    assert world.left() == []
    assert world.final() == world.accepted, "a job ended twice, or not at all"
    assert sum(world.backend.stats(q)["enqueued"] for q in QUEUES) == world.accepted
    if world.calm:
        assert sum(world.ended.values()) == world.accepted, "a job ran twice though no process died"
    assert world.seen["cut"] > 0


# Lua in Python is left out: the same scripts, fifty times slower.
@pytest.mark.parametrize("backend", ["memory", "wire", "debian"], indirect=True)
@pytest.mark.parametrize("distinct", [JOBS, 3], ids=["different payloads", "equal payloads"])
@pytest.mark.parametrize("calm", [False, True], ids=["deaths", "no deaths"])
def test_every_accepted_job_ends_exactly_once(backend: Backend, distinct: int, calm: bool) -> None:
    """Kills, cuts, lost replies, late commands, false deaths, racing recoverers and hand-backs; then all is healed."""
    check(World(backend, seed=distinct + calm, jobs=JOBS, distinct=distinct, calm=calm))


@pytest.mark.parametrize("seed", range(40))
def test_and_so_in_many_histories(seed: int) -> None:
    """The same on the plain dicts, whose rules the scripts share."""
    check(World(MemoryBackend({}), seed, jobs=JOBS, distinct=(JOBS, 3, 1)[seed % 3], calm=seed % 4 == 0))
