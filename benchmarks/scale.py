"""Whether a job costs the same however many others wait: pending, scheduled and dead jobs, queues, workers, respawns.

    python -m benchmarks.scale [--jobs 100000] [--most 1000000] [--respawns 500] [--only pending] [--out DIR]

The measure is CPU time a job of server and workers together (from /proc/PID/schedstat, in ns), which a busy machine disturbs less than
wall time. Writes results/scale.md and scale.json when it runs in full.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ground import (
    RESULTS,
    Ground,
    envelopes,
    fill,
    free_port,
    ground,
    machine,
    median,
    percentile,
    processed,
    publish,
)
from benchmarks.lateness import schedule
from supervisor import metrics_dir
from tests.support.jqd import Jqd, stats
from tests.support.waiting import eventually

Rows = list[tuple[str, float, str]]  # what, figure, unit


def ran_ns(pids: Sequence[int]) -> int:
    """Nanoseconds on a CPU of all threads of these processes."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def pause(client: Any, queues: Sequence[str], paused: bool) -> None:
    for queue in queues:
        if paused:
            client.set(f"jq:{{{queue}}}:paused", "benchmark")
        else:
            client.delete(f"jq:{{{queue}}}:paused")


def cost(
    place: Ground, one: Jqd, waiting: int, measured: int, queues: Sequence[str] = ("default",)
) -> tuple[float, float]:
    """Microseconds of CPU a job, (server, workers): of the first `measured` jobs run with `waiting` pending, over all queues."""
    client, server, workers = place.client(), 0, 0
    done, pids = 0, one.pids("worker")
    while done < measured:
        pause(client, queues, True)
        for queue in queues:
            fill(client, waiting // len(queues), f"jq:{{{queue}}}:pending")
        time.sleep(1.5)
        before = processed(client, queues)
        was = ran_ns([place.server.pid]), ran_ns(pids)
        pause(client, queues, False)
        want = min(measured - done, waiting // len(queues) * len(queues))
        while processed(client, queues) - before < want:
            time.sleep(0.02 if len(queues) == 1 else 0.5)
        server, workers = server + ran_ns([place.server.pid]) - was[0], workers + ran_ns(pids) - was[1]
        done += processed(client, queues) - before
    pause(client, queues, True)
    time.sleep(0.2)
    for queue in queues:
        client.delete(f"jq:{{{queue}}}:pending")
    return server / done / 1000, workers / done / 1000


def kept(place: Ground, one: Jqd, waiting: int, measured: int) -> tuple[float, float]:
    """The same with about `waiting` pending all the time: more are put in as jobs are done. What that costs the server is measured
    before, and taken off."""
    client, key, pids = place.client(), "jq:{default}:pending", one.pids("worker")
    made = envelopes(waiting + 2 * measured)
    parts = [[next(made) for _ in range(waiting // 2)] for _ in range(2 * measured // waiting)]
    pause(client, ["default"], True)
    was = ran_ns([place.server.pid])
    for part in parts:
        client.lpush(key, *part)
    filling = ran_ns([place.server.pid]) - was
    client.delete(key)
    fill(client, waiting)
    time.sleep(1.5)
    before, was_server, was_workers = processed(client), ran_ns([place.server.pid]), ran_ns(pids)
    pause(client, ["default"], False)
    while parts:
        if client.llen(key) <= waiting // 2:
            client.lpush(key, *parts.pop())
        time.sleep(0.0003)
    server, workers = ran_ns([place.server.pid]) - was_server - filling, ran_ns(pids) - was_workers
    done = processed(client) - before
    eventually(lambda: not client.llen(key), 60)
    return server / done / 1000, workers / done / 1000


def told(what: str, found: tuple[float, float], base: tuple[float, float] | None = None) -> Rows:
    rows: Rows = [(f"{what}: server", found[0], "µs/job"), (f"{what}: workers", found[1], "µs/job")]
    if base is not None:
        rows.append((f"{what}: both, against the base", sum(found) / sum(base) * 100, "%"))
    return rows


def pending(jobs: int, most: int) -> Rows:
    """The base is 10,000 pending jobs."""
    rows: Rows = []
    with ground() as place, place.jqd() as one:
        cost(place, one, 10_000, 20_000)
        base = cost(place, one, 10_000, jobs)
        rows += told("10,000 pending", base)
        rows += told("1,000 pending, kept at that", kept(place, one, 1_000, jobs), base)
        waiting = 100_000
        while waiting <= most:
            rows += told(f"{waiting:,} pending", cost(place, one, waiting, jobs), base)
            waiting *= 10
        rows += told("10,000 pending, again", cost(place, one, 10_000, jobs), base)
    return rows


def company(jobs: int, most: int) -> Rows:
    """With many scheduled and dead jobs in the same queue, which each trip looks past."""
    with ground() as place, place.jqd() as one:
        cost(place, one, 10_000, 20_000)
        base = cost(place, one, 10_000, jobs)
        schedule(place, most)
        client, made, now = place.client(), envelopes(100_000), int(time.time() * 1000)
        for _ in range(100):
            client.zadd("jq:{default}:dead", {next(made): now for _ in range(1000)})
        rows = told(f"{most:,} scheduled, 100,000 dead", cost(place, one, 10_000, jobs), base)
        client.flushall()
    return rows


def wide(jobs: int, most: int) -> Rows:
    """100 queues in one pool: 16 parked calls a worker, the others polled each second."""
    names = [f"q{i:03}" for i in range(100)]
    with ground() as place:
        with place.jqd() as one:
            cost(place, one, 10_000, 20_000)
            base = cost(place, one, 10_000, jobs)
        with place.jqd(queues=names) as one:
            cost(place, one, 10_000, 10_000, names)  # so that it knows how long jobs take in each of them
            rows = told("100 queues", cost(place, one, 100_000, jobs, names), base)
    return rows


def crowd(jobs: int, most: int) -> Rows:
    """64 workers on this machine: cost a job, and what each takes of memory when idle."""
    with ground() as place:
        with place.jqd() as one:
            cost(place, one, 10_000, 20_000)
            base = cost(place, one, 10_000, jobs)
        with place.jqd(workers=64) as one:
            time.sleep(3)
            memory = [process.memory_full_info() for process, _ in one.titled("worker")]
            rows = [
                ("64 idle workers: USS, median", median([m.uss for m in memory]) / 2**20, "MiB"),
                ("64 idle workers: USS, maximum", max(m.uss for m in memory) / 2**20, "MiB"),
                ("64 idle workers: PSS, sum", sum(m.pss for m in memory) / 2**20, "MiB"),
            ]
            cost(place, one, 100_000, 100_000)
            rows += told("64 workers", cost(place, one, 100_000, jobs), base)
    return rows


def rush(jobs: int, most: int) -> Rows:
    """100,000 jobs due at the same instant: until all are in the ready list, and how long the server keeps others waiting."""
    n = min(100_000, most)
    with ground() as place, place.jqd():
        client, made = place.client(), envelopes(n)
        pause(client, ["default"], True)
        due = int((time.time() + 5 + n / 20_000) * 1000)
        for _ in range(n // 1000):
            client.zadd("jq:{default}:scheduled", {next(made): due for _ in range(1000)})
        client.lpush("jq:{default}:alarm", "1")
        assert time.time() * 1000 < due, "the filling took too long"
        time.sleep(due / 1000 - time.time())
        pings = []
        while client.zcard("jq:{default}:scheduled"):
            start = time.perf_counter()
            client.ping()
            pings.append((time.perf_counter() - start) * 1000)
        seconds = time.time() - due / 1000
        assert client.llen("jq:{default}:pending") == n
        client.flushall()
    return [
        (f"{n:,} jobs due at once: until all are ready", seconds, "s"),
        ("a PING meanwhile: p99", percentile(pings or [0], 0.99), "ms"),
        ("a PING meanwhile: maximum", max(pings or [0]), "ms"),
    ]


def scrape(url: str) -> float:
    start = time.perf_counter()
    with urllib.request.urlopen(url, timeout=30) as answer:
        answer.read()
    return (time.perf_counter() - start) * 1000


def answers(url: str) -> bool:
    try:
        scrape(url)
    except OSError:
        return False
    return True


def respawned(respawns: int) -> Rows:
    """4 slots killed again and again while they run jobs: the time of a scrape, the number of metric files."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    with ground() as place, place.jqd(workers=4, http={"listen": f"127.0.0.1:{port}"}) as one:
        client = place.client()
        fill(client, 10_000)
        eventually(lambda: stats(client).get("processed", 0) >= 10_000, 60)
        eventually(lambda: answers(url), 30, what="the exporter")
        kill_rounds(client, one, 8)  # so that each slot has been in each state
        before, files = [scrape(url) for _ in range(20)], len(metric_files(one))
        killed = kill_rounds(client, one, respawns)
        after = [scrape(url) for _ in range(20)]
        return [
            ("a scrape before", median(before), "ms"),
            (f"a scrape after {killed:,} kills", median(after), "ms"),
            ("metric files before", files, ""),
            (f"metric files after {killed:,} kills", len(metric_files(one)), ""),
        ]


def kill_rounds(client: Any, one: Jqd, least: int) -> int:
    """All workers at once, with jobs waiting, until at least so many were killed; how many."""
    killed = 0
    while killed < least:
        fill(client, 200)
        victims = set(one.pids("worker"))
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        killed += len(victims)
        eventually(lambda gone=victims: len(set(one.pids("worker")) - gone) >= 4, 60, what="4 new workers")  # type: ignore[misc]
    return killed


def metric_files(one: Jqd) -> list[Path]:
    folders = [Path(place) for place in metrics_dir.candidates(os.environ, tempfile.gettempdir())]
    return [file for folder in folders for file in folder.glob(f"jqd-metrics-*-{one.pid}/*.db")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="measured in each case")
    parser.add_argument("--most", type=int, default=1_000_000, help="pending and scheduled")
    parser.add_argument("--respawns", type=int, default=500)
    parser.add_argument("--only", choices=["pending", "company", "wide", "crowd", "rush", "respawned"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    where, rows = machine(), []
    for case in (pending, company, wide, crowd, rush):
        if args.only in (None, case.__name__):
            rows += show(case(args.jobs, args.most))
    if args.only in (None, "respawned"):
        rows += show(respawned(args.respawns))
    out = args.out or (RESULTS if args.only is None else None)
    if out is not None:
        lines = ["| | |", "|---|---:|", *(f"| {what} | {figure:,.2f} {unit} |" for what, figure, unit in rows)]
        text = "\n".join([*lines, "", f"{where['processor']}, {where['cpus']} CPUs, {where['date']}.", ""])
        publish("scale", text, {"machine": where, "rows": rows}, out)


def show(rows: Rows) -> Rows:
    for what, figure, unit in rows:
        print(f"{what:60} {figure:12,.2f} {unit}", flush=True)
    return rows


if __name__ == "__main__":
    main()
