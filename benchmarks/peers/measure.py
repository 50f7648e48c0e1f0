"""What is measured of each peer: producing and draining, pickup and memory, a kill. Each on a fresh server."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil

from benchmarks.ground import median, percentile
from benchmarks.peers.field import Field, GaveUp, field
from benchmarks.peers.peers import Peer

Figures = dict[str, float | None]
LATENCIES = 200
RERUN_WITHIN = 90.0


def drained(peer: Peer, scale: float) -> Figures:
    """Jobs a second: enqueued one by one, enqueued in bulk, and drained from 10 % done to the end by workers started after that."""
    n = max(50, int(peer.jobs * scale))
    with field(peer) as at:
        half = min(n // 2, max(50, int(10_000 * scale)))
        single = at.produce("one", half)
        bulk = at.produce("many", n - half)
        if bulk is None:
            rest = at.produce("one", n - half)
            assert single is not None and rest is not None
            single, half = single + rest, n
        with at.working():
            at.until("the first job", 60, at.counted)
            at.until("a tenth of the jobs", 60, lambda: at.counted() >= n // 10)
            first, start = at.counted(), time.perf_counter()
            at.until("all jobs", 120, lambda: at.counted() >= n)
            seconds = time.perf_counter() - start
    assert single is not None
    return {
        "drain": (n - first) / seconds if first < n else None, "enqueue": half / single, "bulk": (n - half) / bulk if bulk else None,
    }  # fmt: skip


def awaited(peer: Peer, scale: float) -> Figures:
    """From the producer's call to the handler's first line on idle workers, ms; then the workers' memory, MiB."""
    n = max(20, int(LATENCIES * scale))
    with field(peer) as at, at.working():
        _warm(at)
        at.produce("latency", n)
        at.until("all jobs", 60, lambda: len(at.lines("late")) >= n)
        late = [int(line[0]) / 1e6 for line in at.lines("late")]
        memory = [found for process in at.tree() if (found := _memory(process)) is not None]
    return {
        "pickup_p50": median(late), "pickup_p99": percentile(late, 0.99), "memory": sum(one.pss for one in memory) / 2**20,
        "processes": len(memory),
    }  # fmt: skip


def _memory(process: psutil.Process) -> Any:
    """None for a process that has just ended: some fork for each job."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.memory_full_info()
    except psutil.NoSuchProcess:
        return None


def rerun(peer: Peer) -> Figures:
    """Seconds from kill -9 of the process that runs a job to the job's next start; None: not within RERUN_WITHIN."""
    with field(peer) as at, at.working():
        _warm(at)
        at.produce("slow", 1)
        at.until("the job's start", 60, lambda: at.lines("slow"))
        time.sleep(0.5)
        os.kill(int(at.lines("slow")[0][0]), signal.SIGKILL)
        killed = time.monotonic_ns()
        try:
            at.until("the job's next start", RERUN_WITHIN, lambda: len(at.lines("slow")) > 1)
        except GaveUp:
            return {"rerun": None}
        return {"rerun": (int(at.lines("slow")[1][1]) - killed) / 1e9}


def _warm(at: Field) -> None:
    """Until the workers have run something and have been idle for a while."""
    at.produce("one", 20)
    at.until("the first jobs", 60, lambda: at.counted() >= 20)
    time.sleep(1.0)
