"""How fast jobs get in: `enqueue` in a loop, `enqueue_many`, and `jqctl enqueue --file` with its memory.

    python -m benchmarks.produce [--loop 20000] [--many 300000] [--lines 1000000] [--rounds 3] [--profile]

One producing process, nobody takes the jobs out. CPU time a job is told too: it says more on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.ground import Ground, cpu, ground, median
from jobqueue import JobQueue
from tests.support.jqd import ROOT


def timed(place: Ground, n: int, work: Callable[[JobQueue], object], *, tcp: bool = False) -> dict[str, float]:
    """Jobs a second, and microseconds of CPU a job of producer and server."""
    client = place.client()
    client.flushall()
    with JobQueue(place.url(tcp)) as queue:
        queue.enqueue("noop", {"n": 0})
        ours, theirs, start = time.process_time(), cpu([place.server.pid]), time.perf_counter()
        work(queue)
        seconds = time.perf_counter() - start
        ours, theirs = time.process_time() - ours, cpu([place.server.pid]) - theirs
    assert client.llen("jq:{default}:pending") == n + 1
    return {"per_second": n / seconds, "producer_us": ours / n * 1e6, "server_us": theirs / n * 1e6}


def loop(place: Ground, n: int, *, tcp: bool = False) -> dict[str, float]:
    def work(queue: JobQueue) -> None:
        for i in range(n):
            queue.enqueue("noop", {"n": i})

    return timed(place, n, work, tcp=tcp)


def many(place: Ground, n: int, *, tcp: bool = False) -> dict[str, float]:
    return timed(place, n, lambda queue: queue.enqueue_many(("noop", {"n": i}) for i in range(n)), tcp=tcp)


def from_file(place: Ground, n: int) -> dict[str, float]:
    """`jqctl enqueue --file` as a process of its own: lines a second with its start, and its greatest memory."""
    path = place.folder / "jobs.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"type":"noop","payload":{{"n":{i}}}}}\n' for i in range(n))
    client = place.client()
    client.flushall()
    start = time.perf_counter()
    command = [sys.executable, "-m", "supervisor.ctl", "--addr", place.url(), "enqueue", "--file", str(path)]
    process = subprocess.Popen(
        command, cwd=place.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 and client.llen("jq:{default}:pending") == n
    path.unlink()
    return {"per_second": n / (time.perf_counter() - start), "max_rss_mib": usage.ru_maxrss / 1024}


def profile(work: Callable[[], Any]) -> None:
    import cProfile
    import pstats

    with cProfile.Profile() as seen:
        work()
    pstats.Stats(seen).sort_stats("tottime").print_stats(15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=300_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    with ground() as place:
        if args.profile:
            profile(lambda: loop(place, args.loop))
            profile(lambda: many(place, args.many))
            return
        for name, work, n in (("enqueue in a loop", loop, args.loop), ("enqueue_many", many, args.many)):
            found = [work(place, n, tcp=args.tcp) for _ in range(args.rounds)]
            told = ", ".join(f"{key} {median([one[key] for one in found]):,.1f}" for key in found[0])
            print(f"{name}: {told}")
        for lines in (args.lines // 10, args.lines):
            one = from_file(place, lines)
            print(
                f"jqctl enqueue --file of {lines:,} lines: {one['per_second']:,.0f}/s, {one['max_rss_mib']:.0f} MiB at most"
            )


if __name__ == "__main__":
    main()
