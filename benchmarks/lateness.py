"""How late delayed jobs start: from the moment a job is due to the first line of its handler, with many others scheduled.

    python -m benchmarks.lateness [--scheduled 1000000] [--times 500]

The others are due tomorrow. One idle pair of workers; the jobs measured are due at random moments, one at a time.
"""

from __future__ import annotations

import argparse
import random
import time

from benchmarks.ground import Ground, envelopes, ground, median, percentile
from jobqueue import JobQueue


def schedule(place: Ground, n: int, key: str = "jq:{default}:scheduled") -> None:
    """`n` no-op jobs due tomorrow, a millisecond apart."""
    client, tomorrow, made = place.client(), int(time.time() + 86400) * 1000, envelopes(n)
    for first in range(0, n, 5000):
        client.zadd(key, {next(made): tomorrow + i for i in range(first, min(first + 5000, n))})


def figures(place: Ground, scheduled: int, times: int) -> list[float]:
    """Milliseconds, one a job."""
    schedule(place, scheduled)
    rng = random.Random(1)
    with place.jqd() as one, JobQueue(place.url()) as queue:
        already = len(one.runs("late"))
        for _ in range(times):
            due = time.time() + 0.02 + rng.random() * 0.02
            queue.enqueue("late", {"due": due * 1000}, at=due)
            time.sleep(0.005 + rng.random() * 0.005)
        while len(one.runs("late")) - already < times:
            time.sleep(0.05)
        return [float(run[1]) for run in one.runs("late")[already:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduled", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=500)
    args = parser.parse_args()
    with ground() as place:
        found = figures(place, args.scheduled, args.times)
    p99 = percentile(found, 0.99)
    print(
        f"lateness, {args.scheduled:,} scheduled: p50 {median(found):.2f} ms, p99 {p99:.2f} ms, max {max(found):.2f} ms"
    )


if __name__ == "__main__":
    main()
