"""How soon a job runs again after kill -9: of its worker, of worker and steward, of everything.

    python -m benchmarks.recovery [--times 100] [--all 10]

Starts a jqd of its own on a Redis of its own with `appendonly yes`. The handler writes a time when it starts; the
figure is that time minus the time of the kill, both on the same monotonic clock. Prints median, p99 and maximum in
milliseconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from pathlib import Path

from benchmarks.ground import ground
from tests.support.jqd import Jqd, job, push
from tests.support.servers import Server


def starts(one: Jqd, name: str) -> list[tuple[int, float]]:
    return [(int(run[2]), float(run[3])) for run in one.runs("sleep") if run[1] == name]


def wait_starts(one: Jqd, name: str, n: int) -> tuple[int, float]:
    end = time.monotonic() + 20
    while len(found := starts(one, name)) < n:
        assert time.monotonic() < end, f"{name} did not start {n} times: {found}\n{one.tail()}"
        time.sleep(0.002)
    return found[n - 1]


def rerun(one: Jqd, client: object, name: str, roles: tuple[str, ...] = ()) -> float:
    """Milliseconds from the kill of the worker that runs `name` to the job's next start."""
    wait_idle(one)
    push(client, job("sleep", {"name": name, "seconds": 2.0 if roles else 0.4}))  # type: ignore[arg-type]
    pid, _ = wait_starts(one, name, 1)
    time.sleep(1.1 if roles else 0.05)  # let the last replacement settle
    extra = [one.pid_of(role) for role in roles]
    at = time.monotonic()
    for victim in (*extra, pid):
        os.kill(victim, signal.SIGKILL)
    _, again = wait_starts(one, name, 2)
    return (again - at) * 1000


def wait_idle(one: Jqd) -> None:
    while len(one.runs("slept")) < len(set(one.names("sleep"))):
        time.sleep(0.02)


def restart(one: Jqd, client: object, number: int) -> float:
    """Milliseconds from the start of a new jqd to the moment when all jobs that ran when everything was killed run
    again."""
    names = [f"all{number}-{i}" for i in range(4)]
    wait_idle(one)
    push(client, *(job("sleep", {"name": name, "seconds": 3.0}) for name in names))  # type: ignore[arg-type]
    for name in names:
        wait_starts(one, name, 1)
    one.kill_tree()
    at = time.monotonic()
    one.start(wait=False)
    last = max(wait_starts(one, name, 2)[1] for name in names)
    one.wait_ready()
    while len([n for n in one.names("slept") if n in names]) < len(names):
        time.sleep(0.01)
    return (last - at) * 1000


def line(what: str, figures: list[float]) -> str:
    ordered = sorted(figures)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return f"{what:44} n={len(figures):3}  median {statistics.median(figures):7.1f} ms  p99 {p99:7.1f} ms  max {ordered[-1]:7.1f} ms"


def figures(server: Server, folder: Path, times: int, everything: int) -> dict[str, list[float]]:
    """Milliseconds by what was killed."""
    client = server.client()
    pools = [{"name": "default", "processes": 4, "queues": ["default"]}]
    one = Jqd(folder, server.url, pools=pools, queues={"default": {"max_crashes": 1000}}, start=False)
    try:
        one.start()
        return {
            "worker killed": [rerun(one, client, f"w{i}") for i in range(times)],
            "worker and steward killed": [rerun(one, client, f"s{i}", ("steward",)) for i in range(max(3, times // 5))],
            "everything killed, started again": [restart(one, client, i) for i in range(everything)],
        }
    finally:
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--all", type=int, default=10)
    parser.add_argument("--server", choices=["debian", "embedded"], default="debian")
    args = parser.parse_args()
    with ground(args.server) as place:
        for what, found in figures(place.server, place.folder, args.times, args.all).items():
            print(line(what, found))


if __name__ == "__main__":
    main()
