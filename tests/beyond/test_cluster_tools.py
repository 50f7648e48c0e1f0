"""Producers, the exporter's questions and jqctl on a Cluster: every verb finds its shard, and a shard that is down hides only its own queues."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobqueue import JobQueue
from jobqueue.errors import JobQueueError
from jobqueue.redis.browse import Browser
from jobqueue.redis.cluster.chart import Chart
from jobqueue.redis.cluster.slots import Ask, Moved, Place, SlotMap, redirect, slot_of
from jobqueue.redis.cluster.wire import ClusterWire
from jobqueue.redis.connect import Endpoint
from jobqueue.redis.health import health
from jobqueue.redis.inspect import Inspector
from jobqueue.redis.operate import Operator
from jobqueue.settings import RedisSettings
from supervisor.roles.check import redis_faults
from tests.support.clusters import Cluster
from tests.support.jqd import ROOT
from tests.support.servers import debian_binary, embedded_binary

NewInspector = Callable[[Cluster], Inspector]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binary = embedded_binary() or debian_binary()
    if binary is None:
        pytest.skip("no server that can be a node is installed")
    one = Cluster(binary, masters=3, replicas=0)
    yield one
    one.close()


@pytest.fixture
def queues(cluster: Cluster) -> list[str]:
    for port in cluster.masters:
        cluster.ask(port, "FLUSHALL")
    return [cluster.queues_of(port)[0] for port in cluster.masters]


def jqctl(cluster: Cluster, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor.ctl", "--addr", cluster.url, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)


def test_slots_and_redirects_are_read_as_the_nodes_write_them(cluster: Cluster) -> None:
    for key in ("a", "jq:{emails}:pending", "{}x", "a{b}c{d}", "ключ", "{user}"):
        assert slot_of(key) == cluster.ask(cluster.masters[0], "CLUSTER", "KEYSLOT", key)
    here = Place("10.0.0.1", 7000)
    assert redirect("MOVED 3999 127.0.0.1:6381", here) == Moved(3999, Place("127.0.0.1", 6381))
    assert redirect("ASK 3999 :6381", here) == Ask(Place("10.0.0.1", 6381))
    assert redirect("MOVED 1 2001:db8::1:6381", here) == Moved(1, Place("2001:db8::1", 6381))
    assert redirect("TRYAGAIN Multiple keys request during rehashing of slot", here) is None


def test_a_wrong_map_costs_a_redirect_and_mixes_up_no_replies(cluster: Cluster, queues: list[str]) -> None:
    """All queues are believed to be elsewhere; commands to all of them travel at once, and each reply comes home."""
    chart = Chart([("127.0.0.1", port) for port in cluster.masters], Endpoint())
    wire = ClusterWire(chart, "test", 10.0)
    try:
        wire.load()
        for queue in queues:
            wire.call("SET", f"{{{queue}}}", queue)
        places = chart.map.places
        for _ in range(20):
            chart.loaded(SlotMap({places[1]: [(0, 5460)], places[2]: [(5461, 10921)], places[0]: [(10922, 16383)]}))
            commands = [("GET", f"{{{queue}}}") for queue in queues * 5]
            assert wire.pipe(commands) == [queue.encode() for queue in queues * 5]
    finally:
        wire.close()


def test_many_jobs_for_many_queues_and_a_durable_one(cluster: Cluster, queues: list[str]) -> None:
    with JobQueue(redis=RedisSettings(url=cluster.url, durability="fsync")) as producer:
        for queue in queues:
            done = producer.enqueue_many([("note", {"name": str(n)}) for n in range(1000)], queue=queue)
            assert len(done.ids) == 1000
        handle = producer.enqueue("note", {"name": "last"}, queue=queues[0], unique="u")
        assert handle.durable is True
        assert producer.enqueue("note", {"name": "last"}, queue=queues[0], unique="u").duplicate
    client = cluster.client()
    assert [client.llen(f"jq:{{{queue}}}:pending") for queue in queues] == [1001, 1000, 1000]


@pytest.fixture
def inspected() -> Iterator[NewInspector]:
    made: list[Inspector] = []

    def new(cluster: Cluster) -> Inspector:
        made.append(Inspector(RedisSettings(url=cluster.url)))
        return made[-1]

    yield new
    for one in made:
        one.server.close()


def test_operators_find_change_and_purge(cluster: Cluster, queues: list[str], inspected: NewInspector) -> None:
    with JobQueue(cluster.url) as producer:
        for queue in queues:
            producer.enqueue_many([("note", {"name": str(n)}) for n in range(10)], queue=queue)
        late = producer.enqueue("note", {"name": "late"}, queue=queues[1], delay=1000)
    inspector = inspected(cluster)
    operator = Operator(Browser(inspector))
    assert {name: state.pending for name, state in inspector.snapshot().queues.items()} == dict.fromkeys(queues, 10)
    assert operator.cancel(late.id) == "cancelled"
    operator.pause(queues[2], "test")
    assert inspector.counts(queues[2]).paused == "test"
    assert operator.resume(queues[2])
    assert sum(operator.purge(queues[0])) == 10
    assert inspector.counts(queues[0]).pending == 0
    assert "3 of 3 masters" in health(inspector.server)["name"]
    assert operator.cancel("nobody", queues[0]) == "marked"


def test_a_shard_that_is_down_hides_only_its_own_queues(
    cluster: Cluster, queues: list[str], inspected: NewInspector
) -> None:
    with JobQueue(cluster.url) as producer:
        for queue in queues:
            producer.enqueue("note", {"name": "a"}, queue=queue)
    down = next(
        port
        for port, queue in zip(cluster.masters, queues, strict=True)
        if cluster.master_of(queue) == port and cluster.master_of_key("jq:queues") != port
    )
    hidden = queues[cluster.masters.index(down)]
    cluster.nodes[down].kill()
    try:
        found = inspected(cluster).snapshot().queues
        assert {name: found[name].pending for name in queues} == {name: int(name != hidden) for name in queues}
        assert "CLUSTERDOWN" in str(found[hidden].broken)
        told = jqctl(cluster, "doctor", "--json")
        findings: list[dict[str, Any]] = json.loads(told.stdout)
        assert told.returncode == 1
        faults = [finding for finding in findings if finding["level"] == "fault"]
        assert [f"node 127.0.0.1:{down}" in fault["what"] for fault in faults] == [True, False], faults
        faults_, notes = redis_faults(RedisSettings(url=cluster.url))
        assert (faults_, notes) == ([], []), "jqd starts with the shards there are"
        with JobQueue(cluster.url) as producer:
            for queue in queues:
                if queue == hidden:
                    with pytest.raises(JobQueueError, match="not available"):
                        producer.enqueue("note", {"name": "b"}, queue=queue)
                else:
                    producer.enqueue("note", {"name": "b"}, queue=queue)
    finally:
        cluster.nodes[down].start()


def test_a_node_that_would_lose_jobs_is_refused(cluster: Cluster) -> None:
    cluster.ask(cluster.masters[1], "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        faults, _ = redis_faults(RedisSettings(url=cluster.url))
        assert len(faults) == 1
        assert "allkeys-lru" in faults[0]
        assert jqctl(cluster, "doctor").returncode == 1
    finally:
        cluster.ask(cluster.masters[1], "CONFIG", "SET", "maxmemory-policy", "noeviction")
