"""A Cluster against one server, and a Cluster under faults.

    python -m benchmarks.shards [--jobs 60000] [--workers 2]          six queues on three shards and on one server: jobs/s, CPU a job
    python -m benchmarks.shards --faults [--rounds 3]                 topology × fault × jobs × lost × settled twice × time to work again

All of it shares the processors of one machine, so more shards cannot be faster here; what the run shows is what each shard still has to do.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ground import HANDLERS, Ground, fill, ground, median
from benchmarks.scale import pause, ran_ns
from jobqueue import JobQueue
from jobqueue.errors import JobQueueError
from jobqueue.settings import RedisSettings
from tests.support.clusters import Cluster
from tests.support.jqd import HANDLERS as NOTING
from tests.support.jqd import Jqd, nothing_waits, stats
from tests.support.servers import debian_binary, embedded_binary
from tests.support.waiting import eventually

QUEUES = [f"q{n}" for n in range(6)]  # two on each of three shards


def processed(client: Any) -> int:
    return sum(stats(client, queue).get("processed", 0) for queue in QUEUES)


def drain(client: Any, url: str, servers: Sequence[int], jobs: int, workers: int) -> tuple[float, list[float], float]:
    """(jobs a second, microseconds of CPU a job of each server, of the workers together)."""
    pool = {"name": "default", "processes": workers, "queues": dict.fromkeys(QUEUES, 1)}
    with tempfile.TemporaryDirectory(prefix="jq-") as folder:
        one = Jqd(Path(folder), url, handlers=HANDLERS, pools=[pool], start=False)
        try:
            one.start(wait=False)
            one.wait_ready(60)
            for queue in QUEUES:
                fill(client, 500, f"jq:{{{queue}}}:pending")
            eventually(lambda: processed(client) >= 3000, 60)
            pause(client, QUEUES, True)
            for queue in QUEUES:
                fill(client, jobs // 6, f"jq:{{{queue}}}:pending")
            time.sleep(1.5)
            before, was, busy = processed(client), [ran_ns([pid]) for pid in servers], ran_ns(one.pids("worker"))
            start = time.perf_counter()
            pause(client, QUEUES, False)
            eventually(lambda: processed(client) - before >= jobs // 6 * 6, 120, every=0.02)
            seconds, done = time.perf_counter() - start, processed(client) - before
            used = [(ran_ns([pid]) - ns) / done / 1000 for pid, ns in zip(servers, was, strict=True)]
            return done / seconds, used, (ran_ns(one.pids("worker")) - busy) / done / 1000
        finally:
            one.close()


def compare(jobs: int, workers: int) -> None:
    def told(what: str, rate: float, used: list[float], busy: float) -> None:
        most = 1e6 / max(used)
        print(
            f"{what:22} {rate:9,.0f} jobs/s   server CPU a job, each: {', '.join(f'{u:.1f}' for u in used)} µs; workers: {busy:.1f} µs"
        )
        print(f"{'':22} with a core for each server: {most:,.0f} jobs/s at most", flush=True)  # fmt: skip

    def alone(place: Ground) -> None:
        told("one server", *drain(place.client(), place.url(tcp=True), [place.server.pid], jobs, workers))

    with ground() as place:
        alone(place)
    cluster = Cluster(binary(), replicas=0)
    try:
        pids = [cluster.nodes[port].pid for port in cluster.masters]
        told("three shards", *drain(cluster.client(), cluster.url, pids, jobs, workers))
    finally:
        cluster.close()


def binary() -> str:
    found = embedded_binary() or debian_binary()
    assert found is not None, "no server that can be a node is installed"
    return found


class Load:
    """Enqueues notes to all queues, and counts what was accepted."""

    def __init__(self, url: str) -> None:
        self.accepted: list[str] = []
        self._stop = threading.Event()
        self._url = url
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        settings = RedisSettings(url=self._url, socket_timeout=2.0)
        with JobQueue(redis=settings) as queue:
            n = 0
            while not self._stop.wait(0.001):
                n += 1
                try:
                    queue.enqueue("note", {"name": str(n)}, queue=QUEUES[n % 6])
                except JobQueueError:
                    continue
                self.accepted.append(str(n))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


Fault = Callable[[Cluster, Jqd], str]  # returns a queue that is hit


def slot_moves(cluster: Cluster, one: Jqd) -> str:
    here = cluster.master_of("q0")
    cluster.move("q0", here, next(port for port in cluster.masters if port != here))
    return "q0"


def master_dies(cluster: Cluster, one: Jqd) -> str:
    queue = next(q for q in QUEUES if cluster.master_of(q) == cluster.masters[0])
    cluster.nodes[cluster.masters[0]].kill()
    eventually(lambda: cluster.master_of(queue, cluster.replicas[0]) == cluster.replicas[0], 30, every=0.01)
    return queue


def shard_restarts(cluster: Cluster, one: Jqd) -> str:
    port = cluster.masters[1]
    queue = next(q for q in QUEUES if cluster.master_of(q) == port)
    cluster.nodes[port].kill()
    time.sleep(1)
    cluster.nodes[port].start()
    return queue


def worker_dies(cluster: Cluster, one: Jqd) -> str:
    os.kill(one.pids("worker")[0], signal.SIGKILL)
    return "q0"


FAULTS: list[tuple[str, int, Fault]] = [
    ("slot of a queue moves", 0, slot_moves),
    ("kill -9 of a master, its replica takes over", 1, master_dies),
    ("kill -9 of a master without replica, back after 1 s", 0, shard_restarts),
    ("kill -9 of a worker", 0, worker_dies),
]


def suffer(fault: Fault, replicas: int) -> tuple[int, int, int, int, float]:
    """(accepted, lost, ran more than once, settled more than accepted, seconds from the fault's end until a job of the queue hit ran)."""
    cluster = Cluster(binary(), replicas=replicas)
    with tempfile.TemporaryDirectory(prefix="jq-") as folder:
        pool = {"name": "default", "processes": 2, "queues": QUEUES}
        one = Jqd(Path(folder), cluster.url, handlers=NOTING, pools=[pool], start=False)
        try:
            one.start(wait=False)
            one.wait_ready(60)
            load = Load(cluster.url)
            time.sleep(1.5)
            hit = fault(cluster, one)
            over, hits = time.monotonic(), QUEUES.index(hit)
            eventually(lambda: any(float(r[3]) > over and int(r[1]) % 6 == hits for r in one.runs("note")), 60)
            again = next(float(r[3]) for r in one.runs("note") if float(r[3]) > over and int(r[1]) % 6 == hits) - over
            time.sleep(1)
            load.stop()
            client = cluster.client()
            eventually(lambda: nothing_waits(client, QUEUES), 60)
            ran = Counter(one.names("note"))
            lost = len(set(load.accepted) - set(ran))
            settled = processed(client) - len(ran)
            return len(load.accepted), lost, sum(n > 1 for n in ran.values()), max(0, settled), again
        finally:
            one.close()
            cluster.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.faults:
        compare(args.jobs, args.workers)
        return
    print("| topology | fault | jobs | lost | ran twice | finalised twice | works again after |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, replicas, fault in FAULTS:
        found = [suffer(fault, replicas) for _ in range(args.rounds)]
        jobs, lost, twice, more = (sum(one[i] for one in found) for i in range(4))
        seconds = median([one[4] for one in found])
        topology = f"Cluster, 3 masters{', 1 replica' if replicas else ''}"
        print(f"| {topology} | {name} | {jobs:,} | {lost} | {twice} | {more} | {seconds:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
