"""Roles by level: started when wanted, stopped when not, replaced when silent; and the order in which all leave."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.settings import RedisSettings
from supervisor import shutdown
from supervisor.desired import Desired, PoolSize
from supervisor.generation import Generation, Generations, ReloadRefused, resized
from supervisor.rolekeeping import SILENCE, START_TIMEOUT, Move, Role, RoleState
from supervisor.settings import Http, Pool, Settings
from supervisor.shutdown import Facts, Stage
from supervisor.wanted import Facts as RoleFacts
from supervisor.wanted import wanted_roles

NEVER = -inf


def role(name: str = "steward", state: RoleState = RoleState.READY, generation: int = 1, **facts: object) -> Role:
    made = Role(name, generation, b"", state=state, since=100.0)
    for key, value in facts.items():
        setattr(made, key, value)
    return made


def test_an_empty_role_is_started_once_its_backoff_is_over() -> None:
    empty = role(state=RoleState.EMPTY)
    assert empty.move(100.0, NEVER) is Move.START
    empty.backoff = empty.backoff.failed(100.0)
    assert empty.move(100.0, NEVER) is None
    assert empty.move(empty.wake_at(), NEVER) is Move.START


def test_an_unwanted_role_is_stopped_once_and_killed_at_its_deadline() -> None:
    ready = role(heard=100.0, wanted=False)
    assert ready.move(100.0, NEVER) is Move.STOP
    ready.state, ready.deadline = RoleState.STOPPING, 105.0
    assert ready.move(104.9, NEVER) is None
    assert ready.move(105.0, NEVER) is Move.KILL


def test_a_silent_role_is_killed_but_not_in_a_grace() -> None:
    ready = role(heard=100.0)
    assert ready.move(100.0 + SILENCE - 0.1, NEVER) is None
    assert ready.move(100.0 + SILENCE, NEVER) is Move.KILL
    assert ready.move(100.0 + SILENCE, 200.0) is None


def test_a_role_that_imports_or_loads_may_be_silent_for_longer() -> None:
    starting = role("forkserver", RoleState.STARTING)
    assert starting.move(100.0 + START_TIMEOUT - 1, NEVER) is None
    assert starting.move(100.0 + START_TIMEOUT, NEVER) is Move.KILL


FACTS = st.builds(
    Facts,
    stopping=st.booleans(),
    workers_gone=st.booleans(),
    sweep_over=st.booleans(),
    present=st.frozensets(st.sampled_from(["redis", "forkserver", "steward", "exporter"])),
)


@given(st.lists(FACTS))
def test_stages_only_go_forward_and_the_server_outlives_the_steward(history: list[Facts]) -> None:
    stage = Stage.RUNNING
    for facts in history:
        new = shutdown.advance(stage, facts)
        assert new >= stage
        if new >= Stage.EXPORTER > stage:
            assert not facts.present & {"steward", "forkserver"}
        if new is Stage.GONE and stage is not Stage.GONE:
            assert not facts.present
        stage = new


def test_the_order_of_leaving() -> None:
    leaving = [
        {name for name in ("forkserver", "steward", "exporter", "redis") if shutdown.belongs(name, stage)}
        for stage in Stage
    ]
    assert leaving[Stage.WORKERS] == {"forkserver", "steward", "exporter", "redis"}
    assert leaving[Stage.SWEEP] == {"steward", "exporter", "redis"}
    assert leaving[Stage.STEWARD] == {"exporter", "redis"}
    assert leaving[Stage.EXPORTER] == {"redis"}
    assert leaving[Stage.SERVER] == set()


def settings(**changes: object) -> Settings:
    return Settings(pools=(Pool(name="default", processes=4, queues=("default",)),), **changes)  # type: ignore[arg-type]


def generations(*numbers: int) -> Generations:
    return Generations({number: Generation.of(number, settings()) for number in numbers or (1,)})


DESIRED = Desired(1, (PoolSize("default", 4),))


def facts(**changes: object) -> RoleFacts:
    defaults = {"stage": Stage.RUNNING, "desired": DESIRED, "embedded": True, "exporter_due": True}
    return RoleFacts(**(defaults | changes))  # type: ignore[arg-type]


def test_server_forkserver_and_steward_start_beside_each_other() -> None:
    assert set(wanted_roles(facts(exporter_due=False), generations(), [])) == {
        ("redis", 1),
        ("forkserver", 1),
        ("steward", 1),
    }


def test_no_embedded_server_for_a_server_elsewhere() -> None:
    assert set(wanted_roles(facts(embedded=False), generations(), [])) == {
        ("forkserver", 1),
        ("steward", 1),
        ("exporter", 1),
    }


def test_the_old_steward_stays_until_the_new_one_is_ready() -> None:
    class Open:
        closed = False

    new = role("steward", RoleState.STARTING, 2, channel=Open())
    old = role("steward", RoleState.READY, 1, channel=Open())
    desired = Desired(2, DESIRED.pools, previous=DESIRED)
    stewards = [
        key for key in wanted_roles(facts(desired=desired), generations(1, 2), [old, new]) if key[0] == "steward"
    ]
    assert stewards == [("steward", 2), ("steward", 1)]
    new.state = RoleState.READY
    stewards = [
        key for key in wanted_roles(facts(desired=desired), generations(1, 2), [old, new]) if key[0] == "steward"
    ]
    assert stewards == [("steward", 2)]


def test_the_old_forkserver_stays_while_there_is_something_to_go_back_to() -> None:
    desired = Desired(2, DESIRED.pools, previous=DESIRED)
    wanted = wanted_roles(facts(desired=desired), generations(1, 2), [])
    assert {("forkserver", 1), ("forkserver", 2)} <= set(wanted)


def test_a_new_exporter_waits_until_the_port_is_free() -> None:
    known = generations(1, 2)
    known.exporter = 2
    assert ("exporter", 2) not in wanted_roles(facts(), known, [role("exporter", RoleState.STOPPING, 1)])
    assert ("exporter", 2) in wanted_roles(facts(), known, [role("exporter", RoleState.EMPTY, 1)])


def test_no_exporter_where_http_is_off() -> None:
    off = Generations({1: Generation.of(1, settings(http=Http(listen=None)))})
    assert not any(name == "exporter" for name, _ in wanted_roles(facts(), off, []))


def test_another_server_is_refused_and_other_credentials_are_not() -> None:
    known = generations()
    current = settings(redis=RedisSettings(url="redis://:one@h:1"))
    known.prepare(settings(redis=RedisSettings(url="redis://:two@h:1")), current, 0.0)
    with pytest.raises(ReloadRefused, match="restart"):
        known.prepare(settings(redis=RedisSettings(url="redis://h:2")), current, 0.0)


def test_a_pool_never_shrinks_to_nothing_nor_outgrows_the_rows() -> None:
    assert resized(Desired(1, (PoolSize("default", 1),)), -1).pools[0].processes == 1
    assert resized(Desired(1, (PoolSize("default", 819),)), 1).pools[0].processes == 819
    assert resized(Desired(1, (PoolSize("default", 4),)), 1).pools[0].processes == 5
