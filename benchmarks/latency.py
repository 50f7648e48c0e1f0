"""From LPUSH to the first line of the handler, with idle workers of three queues.

    python -m benchmarks.latency [--times 2000] [--tcp]

The payload carries the monotonic time of the push; the handler writes how long ago that was. One job at a time, with a pause, so that
workers are parked when it comes.
"""

from __future__ import annotations

import argparse
import json
import random
import time

from benchmarks.ground import Ground, ground, median, percentile

QUEUES = ["critical", "default", "low"]


def figures(place: Ground, times: int, *, workers: int = 2, tcp: bool = False) -> list[float]:
    """Microseconds, one a job."""
    client, rng = place.client(), random.Random(1)
    with place.jqd(queues=QUEUES, workers=workers, tcp=tcp) as one:
        already = len(one.runs("latency"))
        time.sleep(0.5)
        for _ in range(times):
            key = f"jq:{{{rng.choice(QUEUES)}}}:pending"
            client.lpush(key, json.dumps({"type": "latency", "payload": {"at": time.monotonic_ns()}}))
            time.sleep(0.004 + rng.random() * 0.006)
        while len(one.runs("latency")) - already < times:
            time.sleep(0.05)
        return [int(name) / 1000 for name in one.names("latency")[already:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--tcp", action="store_true")
    args = parser.parse_args()
    with ground() as place:
        found = figures(place, args.times, tcp=args.tcp)
    told = f"p50 {median(found):.0f} us, p99 {percentile(found, 0.99):.0f} us, max {max(found):.0f} us"
    print(f"LPUSH to handler start: {told}, n {len(found)}")


if __name__ == "__main__":
    main()
