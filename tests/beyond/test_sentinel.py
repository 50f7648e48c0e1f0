"""redis+sentinel://: the master changes under load; no worker needs a restart, what was in flight is reconciled."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobqueue import JobQueue
from jobqueue.errors import Unavailable
from jobqueue.redis.session import Link
from jobqueue.settings import RedisSettings
from tests.support.jqd import job, leftovers, nothing_waits, push, stats
from tests.support.ports import free_port
from tests.support.sentinels import NAME, Group
from tests.support.servers import debian_binary, embedded_binary
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

NewGroup = Callable[..., Group]


@pytest.fixture
def group() -> Iterator[Group]:
    server, sentinel = embedded_binary() or debian_binary(), debian_binary()
    if server is None or sentinel is None:
        pytest.skip("redis-server is not installed")
    folder = Path(tempfile.mkdtemp(prefix="jq-"))
    one = Group(server, sentinel, folder)
    yield one
    one.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("how", ["killed", pytest.param("asked", marks=pytest.mark.slow)])
def test_a_failover_under_load_loses_nothing_that_was_replicated(jqd: NewJqd, group: Group, how: str) -> None:
    """The master is killed, or the Sentinels are asked to change it (a planned failover, in which no write is lost)."""
    one = jqd(url=group.url, pools=[{"name": "default", "processes": 2, "queues": ["critical", "default"]}])
    before, client = group.port, group.master.client()
    push(client, *(job("sleep", {"name": str(n), "seconds": 0.02}) for n in range(400)))
    workers = set(one.pids("worker"))
    eventually(lambda: len(one.runs("slept")) > 40)
    assert client.execute_command("WAIT", 1, 2000) == 1
    if how == "killed":
        group.master.kill()
    else:
        group.ask(group.sentinels[0], "SENTINEL", "FAILOVER", NAME)
    eventually(lambda: group.promoted(before), 30, every=0.02)
    promoted, ran = time.monotonic(), len(one.runs("slept"))
    eventually(lambda: len(one.runs("slept")) > ran + 4, 15)
    assert time.monotonic() - promoted < 5
    client = eventually(lambda: group.port != before and group.master).client()
    push(client, job("note", {"name": "after"}), queue="critical")
    eventually(lambda: one.runs("note"))
    eventually(lambda: nothing_waits(client, ("critical", "default")), 30)
    often = Counter(one.names("slept"))
    assert set(often) == {str(n) for n in range(400)}, "none was lost"
    # A killed master: what was in flight. A demoted one lives on for seconds: what it still gave out until we heard of its successor.
    most = 10 if how == "killed" else 200
    assert sum(often.values()) - 400 <= most
    assert workers == set(one.pids("worker")), "no worker needed a restart"
    assert stats(client)["processed"] >= 400 - 2
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_worker_that_the_new_master_never_heard_of_is_replaced_and_its_jobs_are_not_lost(
    jqd: NewJqd, group: Group
) -> None:
    """The replica is kept from hearing of anything since before jqd started: an asynchronous failover at its worst."""
    before, client = group.port, group.master.client()
    push(client, *(job("sleep", {"name": str(n), "seconds": 0.05}) for n in range(30)))
    assert client.execute_command("WAIT", 1, 2000) == 1
    replica = next(server for port, server in group.servers.items() if port != before)
    master = group.servers[before].client()
    master.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
    master.execute_command("CLIENT", "KILL", "TYPE", "replica")
    one = jqd(url=group.url)
    eventually(lambda: len(one.runs("slept")) > 4)
    workers = set(one.pids("worker"))
    group.servers[before].kill()
    eventually(lambda: group.promoted(before), 30)
    promoted = time.monotonic()
    eventually(lambda: len(Counter(one.names("slept"))) == 30, 20)
    eventually(lambda: nothing_waits(replica.client()))
    assert time.monotonic() - promoted < 15
    assert not workers & set(one.pids("worker"))
    assert stats(replica.client()) == {"processed": 30}, "the new master counts each once: it knows of nothing else"
    assert one.stop() == 0
    assert leftovers(replica.client()) == {}


def test_a_sentinel_that_is_down_or_knows_nothing_is_passed_over(group: Group) -> None:
    good = group.sentinels[0]
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{group.port},127.0.0.1:{good}/{NAME}"
    for _ in range(5):
        link = Link(RedisSettings(url=url), {}, "test")
        assert link.wire.endpoint.port == group.port
        link.close()
    with pytest.raises(Unavailable, match="does not know nobody"):
        Link(RedisSettings(url=url.replace(NAME, "nobody")), {}, "test")


def test_a_producer_enqueues_durably_through_the_sentinels(group: Group) -> None:
    with JobQueue(redis=RedisSettings(url=group.url, durability="replica")) as queue:
        assert queue.enqueue("note", {"name": "a"}).id
    assert group.master.client().llen("jq:{default}:pending") == 1
