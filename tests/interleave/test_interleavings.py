"""All orders in which commands of workers, stewards and a producer can reach a queue, with a fault in any place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jobqueue.redis.connect import Endpoint
from jobqueue.redis.wire import Wire
from tests.interleave.explore import Explorer
from tests.interleave.scenarios import QUICK, Scenario
from tests.interleave.stores import BothStores, Command, Kept, MemoryStore, RedisStore
from tests.interleave.world import Broken, World, plan
from tests.support.servers import Server


@pytest.fixture
def server_store(request: pytest.FixtureRequest) -> Iterator[BothStores]:
    server: Server = request.getfixturevalue(request.param)
    wire = Wire(Endpoint(path=server.socket_path), "explorer", 10.0)
    yield both(wire)
    wire.close()


def both(wire: Wire) -> BothStores:
    return BothStores(RedisStore(wire, (7, 0, 0)))


def names(value: Scenario | str) -> str:
    return value.name if isinstance(value, Scenario) else value


@pytest.mark.parametrize(
    ("server_store", "scenario"),
    [("embedded_server", scenario) for scenario in QUICK] + [("debian_server", scenario) for scenario in QUICK[3:]],
    indirect=["server_store"],
    ids=names,
)
def test_every_schedule_of_the_real_scripts(
    server_store: BothStores, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    """Each command runs in a real server; after it the promises are checked, and that the plain dicts say the very same."""
    explorer = Explorer(World(server_store, plan(*scenario.jobs)))
    schedules = explorer.explore(scenario.workers, scenario.stewards, scenario.bounds)
    record_property(
        "visited",
        f"{explorer.states} states, {explorer.steps} steps, {server_store.commands} commands, {schedules} schedules",
    )
    assert explorer.states > 50
    assert explorer.ends > 0


class Careless(MemoryStore):
    """A store with a mistake in one verb: the explorer must find it."""

    def __init__(self, mistake: str) -> None:
        self.mistake = mistake

    def run(self, kept: Kept, command: Command) -> tuple[object, Kept]:
        answer, then = super().run(kept, command)
        if self.mistake == "forgets to remove" and command.verb == "recover" and kept.processing:
            then = then._replace(processing=kept.processing, leases=kept.leases)
        if self.mistake == "frees too early" and command.verb == "fence":
            then = then._replace(unique=())
        if self.mistake == "no fence" and command.verb in ("fence", "recover"):
            then = then._replace(workers=kept.workers, was=())
        if self.mistake == "no bar" and command.verb == "reconcile":
            then = then._replace(bars=())
        if self.mistake == "next is lost" and command.verb == "wake":
            then = then._replace(next=())
        return answer, then


@pytest.mark.parametrize(
    ("mistake", "scenario"),
    [("forgets to remove", 1), ("frees too early", 1), ("no fence", 2), ("no bar", 0), ("next is lost", 5)],
)
def test_it_finds_a_mistake_in_a_verb(mistake: str, scenario: int) -> None:
    """A search that cannot fail would show nothing."""
    chosen = QUICK[scenario]
    with pytest.raises(Broken, match="after: "):
        Explorer(World(Careless(mistake), plan(*chosen.jobs))).explore(chosen.workers, chosen.stewards, chosen.bounds)
