"""What jqd adds to jobs of 10 ms: one worker running them, against one process that only sleeps as often.

    python -m benchmarks.overhead [--jobs 300] [--rounds 3]

Both sides sleep with `time.sleep(0.01)`, in turns, so that what a busy machine adds to a sleep is added to both.
"""

from __future__ import annotations

import argparse
import json
import time

from benchmarks.ground import Ground, ground, median, processed

SECONDS = 0.01


def alone(n: int) -> float:
    """Seconds a job."""
    start = time.perf_counter()
    for _ in range(n):
        time.sleep(SECONDS)
    return (time.perf_counter() - start) / n


def figures(place: Ground, n: int, rounds: int) -> list[float]:
    """Percent of overhead, one a round."""
    found, client = [], place.client()
    with place.jqd(workers=1):
        for _ in range(rounds):
            sleeping = alone(n)
            job, before = json.dumps({"type": "nap", "payload": {"seconds": SECONDS}}), processed(client)
            client.lpush("jq:{default}:pending", *[job] * n)
            while processed(client) == before:
                time.sleep(0.0005)
            first, start = processed(client), time.perf_counter()
            while (done := processed(client)) < before + n:
                time.sleep(0.0005)
            found.append(((time.perf_counter() - start) / (done - first) / sleeping - 1) * 100)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with ground() as place:
        found = figures(place, args.jobs, args.rounds)
    print(f"jobs of 10 ms: {median(found):.2f} % over sleeping alone (rounds: {', '.join(f'{f:.2f}' for f in found)})")


if __name__ == "__main__":
    main()
