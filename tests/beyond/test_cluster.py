"""redis+cluster://: queues spread over shards, through a whole jqd; slots move and masters die under load, and every accepted job runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis

from jobqueue import JobQueue
from jobqueue.errors import JobQueueError
from jobqueue.settings import RedisSettings
from tests.support.certificates import Authority
from tests.support.clusters import Cluster
from tests.support.jqd import job, leftovers, nothing_waits, push, stats
from tests.support.servers import debian_binary, embedded_binary
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd
from tests.whole.test_cron import TICKER, entry, ticks

pytestmark = pytest.mark.timeout(180)
NewCluster = Callable[..., Cluster]
BINARIES = {"embedded": embedded_binary(), "debian": debian_binary()}


@pytest.fixture
def new_cluster() -> Iterator[NewCluster]:
    made: list[Cluster] = []

    def new(kind: str = "embedded", **options: Any) -> Cluster:
        binary = BINARIES[kind] or BINARIES["debian"]
        if binary is None:
            pytest.skip("no server that can be a node is installed")
        made.append(Cluster(binary, **options))
        return made[-1]

    yield new
    for one in made:
        one.close()


def pool(*queues: str, processes: int = 2, **more: object) -> list[dict[str, object]]:
    return [{"name": "default", "processes": processes, "queues": list(queues), **more}]


def spread(cluster: Cluster, each: int = 1) -> list[str]:
    """Queues on every shard: the first ones on the first, and so on."""
    return [queue for port in cluster.masters for queue in cluster.queues_of(port, each)]


@pytest.mark.parametrize("kind", ["embedded", pytest.param("debian", marks=pytest.mark.slow)])
def test_jobs_of_queues_on_all_shards_run_and_a_stop_leaves_nothing_behind(
    jqd: NewJqd, new_cluster: NewCluster, kind: str
) -> None:
    cluster = new_cluster(kind, replicas=0)
    queues = spread(cluster, 2)
    one, client = jqd(url=cluster.url, pools=pool(*queues)), cluster.client()
    with JobQueue(cluster.url) as producer:
        for queue in queues:
            producer.enqueue_many([("note", {"name": f"{queue}-{n}"}) for n in range(100)], queue=queue)
        producer.enqueue("note", {"name": "delayed"}, queue=queues[0], delay=0.3)
        producer.enqueue("fail", {"name": "dies"}, queue=queues[-1], max_attempts=2)
    eventually(lambda: len(one.runs("note")) == 601 and len(one.runs("fail")) == 2, 30)
    assert Counter(one.names("note")) == Counter([f"{q}-{n}" for q in queues for n in range(100)] + ["delayed"])
    eventually(lambda: sum(stats(client, queue).get("processed", 0) for queue in queues) == 601)
    assert client.zcard(f"jq:{{{queues[-1]}}}:dead") == 1
    eventually(lambda: cluster.connections("jqd") == 2 * (3 + 6) + (3 + 6), 10)  # as docs/scale.md says
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_strict_order_holds_across_shards(jqd: NewJqd, new_cluster: NewCluster) -> None:
    """The lowest queue is worked on when jobs of higher ones come: each next job is the highest there is."""
    cluster = new_cluster(replicas=0)
    high, middle, low = spread(cluster)
    one, client = jqd(url=cluster.url, pools=pool(high, middle, low, processes=1)), cluster.client()
    push(client, *(job("sleep", {"name": f"low{n}", "seconds": 0.02}) for n in range(60)), queue=low)
    eventually(lambda: len(one.runs("slept")) > 5)
    push(client, *(job("sleep", {"name": f"middle{n}", "seconds": 0.02}) for n in range(30)), queue=middle)
    push(client, *(job("sleep", {"name": f"high{n}", "seconds": 0.02}) for n in range(30)), queue=high)
    pushed = time.monotonic()
    eventually(lambda: nothing_waits(client, (high, middle, low)), 40)
    began = [(run[1].rstrip("0123456789"), float(run[3])) for run in one.runs("sleep")]
    order = [name for name, at in began if at > pushed + 0.1]  # what was claimed before may still begin
    assert order == sorted(order, key=["high", "middle", "low"].index)
    assert len(order) > 30


def test_weights_hold_across_shards(jqd: NewJqd, new_cluster: NewCluster) -> None:
    cluster = new_cluster(replicas=0)
    often, seldom, _ = spread(cluster)
    one = jqd(url=cluster.url, pools=[{"name": "default", "processes": 1, "queues": {often: 6, seldom: 2}, "claim_max": 1}], start=False)  # fmt: skip
    client = cluster.client()
    for queue in (often, seldom):
        push(client, *(job("note", {"name": queue}) for _ in range(800)), queue=queue)
    one.start()
    eventually(lambda: len(one.runs("note")) >= 900, 20)
    counts = Counter(one.names("note")[:800])
    assert 520 < counts[often] < 680, f"about 600 were to come from the queue of weight 6: {counts}"


def test_a_queue_whose_slot_moves_is_waited_for_at_its_new_node(jqd: NewJqd, new_cluster: NewCluster) -> None:
    """Idle workers, a slot that moves, then a job: woken there, and the retry too."""
    cluster = new_cluster(replicas=0)
    queue, other = cluster.queues_of(cluster.masters[0])[0], cluster.queues_of(cluster.masters[1])[0]
    one, client = jqd(url=cluster.url, pools=pool(queue, other)), cluster.client()
    push(client, job("note", {"name": "before"}), queue=queue)
    eventually(lambda: one.names("note") == ["before"])
    workers = set(one.pids("worker"))
    cluster.move(queue, cluster.masters[0], cluster.masters[2])
    push(client, job("note", {"name": "after"}), job("fail", {"name": "again"}, max_attempts=3), queue=queue)
    eventually(lambda: one.names("note") == ["before", "after"] and len(one.runs("fail")) == 3, 15)
    assert workers == set(one.pids("worker"))
    assert one.stop() == 0
    assert leftovers(client) == {}


class Producers:
    """Two threads that enqueue notes to all queues until told to stop; `accepted`: names whose enqueue was answered, by queue."""

    def __init__(self, url: str, queues: list[str]) -> None:
        self.accepted: list[str] = []
        self.unknown: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, queues, n)) for n in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str, queues: list[str], number: int) -> None:
        with JobQueue(redis=RedisSettings(url=url, socket_timeout=2.0)) as queue:
            n = 0
            while not self._stop.wait(0.002):
                name, n = f"{number}-{n}", n + 1
                try:
                    queue.enqueue("note", {"name": name}, queue=queues[n % len(queues)])
                    self.accepted.append(name)
                except JobQueueError as error:
                    if getattr(error, "sent", False):
                        self.unknown.append(name)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.slow
def test_a_slot_that_moves_under_load_loses_nothing(jqd: NewJqd, new_cluster: NewCluster) -> None:
    """There and back several times, key by key, while producers push and workers run: each accepted job runs, exactly once."""
    cluster = new_cluster(replicas=0)
    queues = spread(cluster)
    one, client = jqd(url=cluster.url, pools=pool(*queues)), cluster.client()
    producers = Producers(cluster.url, queues)
    workers = set(one.pids("worker"))
    try:
        here, there = cluster.masters[0], cluster.masters[1]
        for _ in range(6):
            ran = len(one.runs("note"))
            eventually(lambda seen=ran: len(one.runs("note")) > seen + 20, 20)  # type: ignore[misc]
            cluster.move(queues[0], here, there)
            here, there = there, here
    finally:
        producers.stop()
    eventually(lambda: nothing_waits(client, queues), 30)
    eventually(lambda: len(set(one.names("note"))) >= len(producers.accepted), 10)
    ran_ = Counter(one.names("note"))
    assert set(producers.accepted) <= set(ran_), "none was lost"
    assert ran_.total() == len(ran_), "none ran twice: no process died and no server lost a write"
    assert len(producers.accepted) > 120
    assert not producers.unknown
    assert workers == set(one.pids("worker")), "no worker needed a restart"
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_queue_stands_still_while_its_slot_is_on_its_way_and_the_others_go_on(
    jqd: NewJqd, new_cluster: NewCluster
) -> None:
    """The move stops half-way, as when its operator's terminal dies: some keys here, some there."""
    cluster = new_cluster(replicas=0)
    stuck, other, _ = spread(cluster)
    one, client = jqd(url=cluster.url, pools=pool(stuck, other)), cluster.client()
    push(client, job("note", {"name": "before"}), queue=stuck)
    eventually(lambda: one.names("note") == ["before"])
    source, target = cluster.masters[0], cluster.masters[1]
    slot = cluster.begin_move(stuck, source, target)
    cluster.move_keys(slot, source, target, 1)
    push(client, *(job("note", {"name": f"other{n}"}) for n in range(50)), queue=other)
    with JobQueue(cluster.url) as producer:
        with pytest.raises(JobQueueError, match="TRYAGAIN"):
            producer.enqueue("note", {"name": "refused"}, queue=stuck)
    eventually(lambda: len(one.runs("note")) == 51, 10)
    used = sum(t.user + t.system for t in (p.cpu_times() for p, _ in one.titled("")))
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 2)
    spent = sum(t.user + t.system for t in (p.cpu_times() for p, _ in one.titled(""))) - used
    assert spent < 1, "nobody spins meanwhile"
    while cluster.move_keys(slot, source, target):
        pass
    cluster.end_move(slot, target)
    push(client, job("note", {"name": "after"}), queue=stuck)
    eventually(lambda: "after" in one.names("note"), 10)
    assert one.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.slow
def test_the_failover_of_a_shard_under_load_loses_nothing_that_was_replicated(
    jqd: NewJqd, new_cluster: NewCluster
) -> None:
    """kill -9 of a master: its replica takes over, its jobs go on there; the other shards' jobs never stop; no worker restarts."""
    cluster = new_cluster(replicas=1)
    queues = spread(cluster)
    failing, rest = queues[0], queues[1:]
    one, client = jqd(url=cluster.url, pools=pool(*queues)), cluster.client()
    for queue in queues:
        push(client, *(job("sleep", {"name": f"{queue}-{n}", "seconds": 0.02}) for n in range(150)), queue=queue)
    eventually(lambda: len(one.runs("slept")) > 40)
    workers, master = set(one.pids("worker")), cluster.masters[0]
    cluster.wait_replicated(master)
    cluster.nodes[master].kill()
    killed = time.monotonic()
    eventually(lambda: cluster.master_of(failing, cluster.replicas[0]) == cluster.replicas[0], 20, every=0.02)
    promoted = time.monotonic()
    eventually(lambda: any(float(r[3]) > promoted and r[1].startswith(f"{failing}-") for r in one.runs("slept")), 15)
    assert time.monotonic() - promoted < 5
    eventually(lambda: len(set(one.names("slept"))) == 450, 30)
    between = [float(r[3]) for r in one.runs("slept") if killed < float(r[3]) < promoted]
    assert len([t for t in between if t > killed + 0.3]) > 5, "the other shards went on meanwhile"
    client = cluster.client()
    eventually(lambda: nothing_waits(client, queues), 10)
    often = Counter(one.names("slept"))
    assert often.total() - len(often) <= 8, "what was in flight ran again at most"
    assert workers == set(one.pids("worker")), "no worker needed a restart"
    assert sum(stats(client, queue)["processed"] for queue in rest) == 300
    assert one.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.slow
def test_a_shard_that_is_down_stops_its_own_queues_alone_and_its_jobs_run_when_it_is_back(
    jqd: NewJqd, new_cluster: NewCluster
) -> None:
    cluster = new_cluster(replicas=0)
    down, other, _ = spread(cluster)
    one, client = jqd(url=cluster.url, pools=pool(down, other)), cluster.client()
    push(client, *(job("sleep", {"name": f"down{n}", "seconds": 0.02}) for n in range(60)), queue=down)
    eventually(lambda: len(one.runs("slept")) > 5)
    cluster.nodes[cluster.masters[0]].kill()
    survivor = redis.Redis(port=cluster.masters[1])
    for n in range(30):
        push(survivor, job("note", {"name": f"other{n}"}), queue=other)
        eventually(lambda seen=n: len(one.runs("note")) > seen, 45)  # type: ignore[misc]
    survivor.close()
    cluster.nodes[cluster.masters[0]].start()
    eventually(lambda: len(set(one.names("slept"))) == 60, 30)
    client = cluster.client()
    eventually(lambda: nothing_waits(client, (down, other)), 15)
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_everything_over_tls(jqd: NewJqd, new_cluster: NewCluster, authority: Authority) -> None:
    """Also the nodes that only another one names: each is known by its address, and its certificate is checked for that."""
    if BINARIES["debian"] is None:
        pytest.skip("redis-server is not installed")
    signed = authority.sign("node", "IP:127.0.0.1")
    files = ("--tls-cert-file", signed.cert, "--tls-key-file", signed.key, "--tls-ca-cert-file", authority.cert)
    cluster = new_cluster("debian", replicas=0, tls=(*files, "--tls-auth-clients", "no"))
    queues = spread(cluster)
    first = cluster.url.partition(",")[0]
    url = f"{first}?ssl_ca_certs={quote(authority.cert, safe='/')}"
    one = jqd(url=url, pools=pool(*queues))
    with JobQueue(url) as producer:
        for queue in queues:
            producer.enqueue("note", {"name": queue}, queue=queue)
    eventually(lambda: sorted(one.names("note")) == sorted(queues))
    plain = {f"laddr=127.0.0.1:{port} " for port in cluster.nodes}
    for port in cluster.nodes:
        lines = [line for line in cluster.ask(port, "CLIENT", "LIST").decode().splitlines() if " name=jqd" in line]
        assert lines
        assert not [line for line in lines if any(address in line for address in plain)]
    assert one.stop() == 0
    assert leftovers(cluster.client()) == {}
    with pytest.raises(JobQueueError, match="ssl_ca_certs"), JobQueue(first) as producer:
        producer.enqueue("note", {"name": "nobody"}, queue=queues[0])


@pytest.mark.slow
def test_a_frozen_shard_stops_its_own_queues_alone_and_the_steward_stays(jqd: NewJqd, new_cluster: NewCluster) -> None:
    """It takes connections and answers nothing: the worst way to be away, for each attempt costs its whole patience."""
    cluster = new_cluster(replicas=0)
    frozen, other, third = spread(cluster)
    one, client = jqd(url=cluster.url, pools=pool(frozen, other, third)), cluster.client()
    push(client, *(job("sleep", {"name": f"frozen{n}", "seconds": 0.02}) for n in range(60)), queue=frozen)
    eventually(lambda: len(one.runs("slept")) > 5)
    node, steward = cluster.nodes[cluster.masters[0]], one.pid_of("steward")
    os.kill(node.pid, signal.SIGSTOP)
    survivor = redis.Redis(port=cluster.masters[1])
    end, n = time.monotonic() + 20, 0
    while time.monotonic() < end:
        push(survivor, job("note", {"name": f"other{n}"}), queue=other)
        n += 1
        eventually(lambda: len(one.runs("note")) >= n, 45)  # noqa: B023
    push(survivor, job("sleep", {"name": "victim", "seconds": 0.1, "killed": True}), queue=other)
    eventually(lambda: "victim" in one.names("sleep"), 45)
    os.kill(next(int(run[2]) for run in one.runs("sleep") if run[1] == "victim"), signal.SIGKILL)
    eventually(lambda: "victim" in one.names("slept"), 45)
    survivor.close()
    assert one.pid_of("steward") == steward
    assert not one.events("role killed")
    os.kill(node.pid, signal.SIGCONT)
    eventually(lambda: len({name for name in one.names("slept") if name.startswith("frozen")}) == 60, 30)
    client = cluster.client()
    eventually(lambda: nothing_waits(client, (frozen, other, third)), 15)
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_the_job_of_a_killed_worker_runs_again_at_once(jqd: NewJqd, new_cluster: NewCluster) -> None:
    cluster = new_cluster(replicas=0)
    queues = spread(cluster)
    one, client = jqd(url=cluster.url, pools=pool(*queues)), cluster.client()
    for queue in queues:
        push(client, job("sleep", {"name": queue, "seconds": 0.1, "killed": True}), queue=queue)
        eventually(lambda queue=queue: queue in one.names("sleep"))  # type: ignore[misc]
        pid = next(int(run[2]) for run in one.runs("sleep") if run[1] == queue)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda queue=queue: one.names("sleep").count(queue) == 2, 6)  # type: ignore[misc]
        eventually(lambda queue=queue: queue in one.names("slept"))  # type: ignore[misc]
    assert [run[4] for run in one.runs("slept")] == ["1/1"] * 3, "each was charged with its crash"
    assert one.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.slow
def test_cron_entries_tick_on_their_shards_and_one_that_is_down_holds_up_its_own_alone(
    jqd: NewJqd, new_cluster: NewCluster
) -> None:
    cluster = new_cluster(replicas=0)
    queues = spread(cluster)
    cron = {queue: entry("* * * * * *", queue) | {"queue": queue} for queue in queues}
    one = jqd(url=cluster.url, pools=pool(*queues), handlers=TICKER, cron=cron)
    eventually(lambda: all(len(ticks(one, name=queue)) >= 2 for queue in queues), 40)
    cluster.nodes[cluster.masters[1]].kill()
    seen = {queue: len(ticks(one, name=queue)) for queue in queues}
    for queue in (queues[0], queues[2]):
        eventually(lambda queue=queue: len(ticks(one, name=queue)) >= seen[queue] + 3, 30)  # type: ignore[misc]
    cluster.nodes[cluster.masters[1]].start()
    eventually(lambda: len(ticks(one, name=queues[1])) >= seen[queues[1]] + 2, 30)
    for queue in queues:
        assert max(Counter(ticks(one, name=queue)).values()) == 1, "no tick ran twice"
    assert one.stop() == 0
