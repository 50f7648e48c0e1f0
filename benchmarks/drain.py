"""How many no-op jobs a second a whole jqd drains: metrics, limits, scoreboard, at-least-once, AOF everysec, all switched on.

    python -m benchmarks.drain [--jobs 300000] [--workers 2] [--rounds 3] [--tcp] [--claim-max 64]

The queue is filled while it is paused; the clock runs from the first jobs counted after its release until the last.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from benchmarks.ground import Ground, fill, ground, median
from jobqueue.redis.connect import endpoint
from jobqueue.redis.wire import Wire, pack
from jobqueue.settings import RedisSettings
from tests.support.jqd import stats

LOOK = 0.01  # seconds; more often would take from the two CPUs what is to be measured


def drain(client: Any, n: int) -> float:
    """Jobs a second for one filling."""
    client.set("jq:{default}:paused", "benchmark")
    fill(client, n)
    before = stats(client).get("processed", 0)
    time.sleep(1.2)
    client.delete("jq:{default}:paused")
    start, first = None, 0
    while (done := stats(client).get("processed", 0) - before) < n:
        if start is None and done:
            start, first = time.perf_counter(), done
        time.sleep(LOOK)
    assert start is not None, "all jobs were done between two looks: take more"
    return float((n - first) / (time.perf_counter() - start))


BARE = "redis.call('RPOP', KEYS[2]) return redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')"


def floor(place: Ground, jobs: int, *, tcp: bool = False, workers: int = 2) -> float:
    """Jobs a second of processes that do nothing but take them one at a time, each with one call of the smallest script that loses none."""
    client = place.client()
    fill(client, jobs, "floor")
    server, goes = endpoint(RedisSettings(url=place.url(tcp))), os.pipe()
    pids = []
    for number in range(workers):
        if (pid := os.fork()) == 0:
            try:
                wire = Wire(server, "floor", 10)
                command = pack("EVALSHA", wire.call("SCRIPT", "LOAD", BARE), 2, "floor", f"taken{number}")
                os.read(goes[0], 1)
                while isinstance(wire.exchange(command), bytes):
                    pass
            finally:
                os._exit(0)
        pids.append(pid)
    time.sleep(1.2)
    start = time.perf_counter()
    os.write(goes[1], b"x" * workers)
    for pid in pids:
        os.waitpid(pid, 0)
    seconds = time.perf_counter() - start
    for end in goes:
        os.close(end)
    assert not client.llen("floor"), "a bare process ended early"
    return jobs / seconds


def figures(
    place: Ground, jobs: int, *, tcp: bool = False, claim_max: int = 64, workers: int = 2, rounds: int = 1
) -> list[float]:
    with place.jqd(tcp=tcp, workers=workers, pool={"claim_max": claim_max}):
        client = place.client()
        return [drain(client, jobs) for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--claim-max", type=int, default=64)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--server", choices=["debian", "embedded"], default="embedded")
    args = parser.parse_args()
    with ground(args.server) as place:
        found = figures(
            place, args.jobs, tcp=args.tcp, claim_max=args.claim_max, workers=args.workers, rounds=args.rounds
        )
    rounds = ", ".join(f"{figure:,.0f}" for figure in found)
    where = f"claim_max {args.claim_max}, {'tcp' if args.tcp else 'unix'}, {args.server}"
    print(f"{median(found):,.0f} jobs/s  (rounds: {rounds})  {where}")
    if args.claim_max == 1:
        with ground(args.server) as place:
            bare = [floor(place, args.jobs, tcp=args.tcp, workers=args.workers) for _ in range(args.rounds)]
        print(f"{median(bare):,.0f} jobs/s of bare processes that only take jobs one at a time")


if __name__ == "__main__":
    main()
