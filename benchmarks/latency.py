"""From LPUSH to the first line of the handler, with idle workers of three queues.

    python -m benchmarks.latency [--times 2000] [--tcp]

The payload carries the monotonic time just before the push; the handler writes how long ago that was. One job at a time, with a pause,
so that workers are parked when it comes. The push is one write to a socket, so that no client library is measured along. `floor` is what
this machine allows: the same push to a process that does nothing but wait in BLMOVE, and take what came with one more command.
"""

from __future__ import annotations

import argparse
import os
import random
import time

from benchmarks.ground import Ground, ground, median, percentile
from jobqueue.redis.connect import endpoint
from jobqueue.redis.wire import Wire
from jobqueue.settings import RedisSettings

QUEUES = ["critical", "default", "low"]


def figures(place: Ground, times: int, *, workers: int = 2, tcp: bool = False) -> list[float]:
    """Microseconds, one a job."""
    rng, wire = random.Random(1), Wire(endpoint(RedisSettings(url=place.url(tcp))), "latency", 10)
    with place.jqd(queues=QUEUES, workers=workers, tcp=tcp) as one:
        already = len(one.runs("latency"))
        time.sleep(0.5)
        for _ in range(times):
            push(wire, f"jq:{{{rng.choice(QUEUES)}}}:pending", '{"type":"latency","payload":{"at":%d}}')
            time.sleep(0.004 + rng.random() * 0.006)
        while len(one.runs("latency")) - already < times:
            time.sleep(0.05)
        return [int(name) / 1000 for name in one.names("latency")[already:]]


def push(wire: Wire, key: str, text: str) -> None:
    wire.send("LPUSH", key, text % time.monotonic_ns())
    wire.read()


def floor(place: Ground, times: int, *, tcp: bool = False) -> list[float]:
    """Microseconds from a push until a bare process has the element in a list of its own."""
    server = endpoint(RedisSettings(url=place.url(tcp)))
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            parked, command = Wire(server, "parked", 10), Wire(server, "command", 10)
            for _ in range(times):
                parked.send("BLMOVE", "floor", "woken", "RIGHT", "LEFT", 5)
                at = int(parked.read())
                command.call("LMOVE", "woken", "taken", "RIGHT", "LEFT")
                os.write(theirs, b"%d\n" % (time.monotonic_ns() - at))
        finally:
            os._exit(0)
    os.close(theirs)
    rng, wire = random.Random(1), Wire(server, "latency", 10)
    time.sleep(0.3)
    for _ in range(times):
        push(wire, "floor", "%d")
        time.sleep(0.004 + rng.random() * 0.006)
    with os.fdopen(ours) as lines:
        found = [int(line) / 1000 for line in lines]
    os.waitpid(pid, 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--tcp", action="store_true")
    args = parser.parse_args()
    with ground() as place:
        for name, found in (
            ("LPUSH to handler start", figures(place, args.times, tcp=args.tcp)),
            ("floor of this machine", floor(place, args.times, tcp=args.tcp)),
        ):
            told = f"p50 {median(found):.0f} us, p99 {percentile(found, 0.99):.0f} us, max {max(found):.0f} us"
            print(f"{name}: {told}, n {len(found)}")


if __name__ == "__main__":
    main()
