"""How many no-op jobs a second a whole jqd drains: metrics, limits, scoreboard, at-least-once, AOF everysec, all switched on.

    python -m benchmarks.drain [--jobs 300000] [--workers 2] [--rounds 3] [--tcp] [--claim-max 64]

The queue is filled while it is paused; the clock runs from its release until the server has counted the last job as processed.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from jobqueue import codec
from tests.support.jqd import Jqd, stats
from tests.support.servers import Server, debian_binary, embedded_binary


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def fill(client: Any, n: int) -> None:
    """`n` envelopes as `enqueue_many` writes them."""
    now = int(time.time() * 1000)
    for first in range(0, n, 5000):
        client.lpush(
            "jq:{default}:pending",
            *(
                b'{"type":"noop","id":"%s","enqueued_at":%d}' % (codec.new_id().encode(), now)
                for _ in range(min(5000, n - first))
            ),
        )


def drain(client: Any, n: int) -> float:
    """Jobs a second for one filling."""
    client.set("jq:{default}:paused", "benchmark")
    fill(client, n)
    before = stats(client).get("processed", 0)
    time.sleep(1.2)
    client.delete("jq:{default}:paused")
    start = None
    while (done := stats(client).get("processed", 0) - before) < n:
        if start is None and done:
            start = time.perf_counter() - 0.001
            first = done
        time.sleep(0.001)
    assert start is not None
    return float((n - first) / (time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--claim-max", type=int, default=64)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--server", choices=["debian", "embedded"], default="embedded")
    args = parser.parse_args()
    binary = (debian_binary() if args.server == "debian" else None) or embedded_binary()
    assert binary is not None, "no Redis server is installed"
    with tempfile.TemporaryDirectory(prefix="jq-") as folder:
        port = free_port() if args.tcp else 0
        server = Server(binary, Path(folder), "--appendonly", "yes", *(["--port", str(port)] if args.tcp else []))
        client = server.client(socket_timeout=60)
        pool = {"name": "default", "processes": args.workers, "queues": ["default"], "claim_max": args.claim_max}
        url = f"redis://127.0.0.1:{port}" if args.tcp else server.url
        one = Jqd(Path(folder), url, pools=[pool])
        try:
            figures = [drain(client, args.jobs) for _ in range(args.rounds)]
            rounds = ", ".join(f"{figure:,.0f}" for figure in figures)
            where = f"claim_max {args.claim_max}, {'tcp' if args.tcp else 'unix'}, {args.server}"
            print(f"{statistics.median(figures):,.0f} jobs/s  (rounds: {rounds})  {where}")
            if one.stop() != 0:
                print(one.tail())
        finally:
            one.close()
            server.close()


if __name__ == "__main__":
    main()
