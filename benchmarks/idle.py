"""What an idle jqd costs: CPU of the whole tree, commands a second at Redis, memory of each worker.

python -m benchmarks.idle [--seconds 60] [--workers 4]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import psutil

from benchmarks.ground import Ground, cpu, ground

QUEUES = ["critical", "default", "low"]


def calls(client: Any) -> dict[str, int]:
    """Calls a command since the server's start; what scripts call counts too."""
    return {name.removeprefix("cmdstat_"): info["calls"] for name, info in client.info("commandstats").items()}


def figures(place: Ground, seconds: float, workers: int) -> dict[str, Any]:
    """`cpu_percent` of one core (tree), `by_process`, `commands` a second, `by_command`, MiB of a worker: `uss` `pss` `rss`."""
    client = place.client()
    with place.jqd(queues=QUEUES, workers=workers, http={"listen": "127.0.0.1:0"}) as one:
        time.sleep(3)
        tree = [psutil.Process(one.pid), *one.children()]
        before, by_command = {p.pid: cpu([p.pid]) for p in tree}, calls(client)
        processed = client.info("stats")["total_commands_processed"]
        time.sleep(seconds)
        rows = sorted(((cpu([p.pid]) - before[p.pid]) / seconds * 100, " ".join(p.cmdline()).strip()) for p in tree)
        commands = (client.info("stats")["total_commands_processed"] - processed) / seconds
        rates = {name: (n - by_command.get(name, 0)) / seconds for name, n in calls(client).items()}
        memory = [process.memory_full_info() for process, _ in one.titled("worker")]
    return {
        "cpu_percent": sum(used for used, _ in rows),
        "by_process": [(title, used) for used, title in reversed(rows)],
        "commands": commands,
        "by_command": {name: rate for name, rate in rates.items() if rate > 0.1},
        **{kind: max(getattr(one, kind) for one in memory) / 2**20 for kind in ("uss", "pss", "rss")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    with ground() as place:
        found = figures(place, args.seconds, args.workers)
    print(f"CPU of the tree: {found['cpu_percent']:.2f} % of one core over {args.seconds:g} s")
    for title, used in found["by_process"]:
        print(f"  {used:6.2f} %  {title}")
    print(f"commands at Redis: {found['commands']:.1f} a second ({args.workers} workers, {len(QUEUES)} queues)")
    for name, rate in found["by_command"].items():
        print(f"  {rate:6.2f} /s  {name}")
    print("memory of a worker: " + ", ".join(f"{kind.upper()} {found[kind]:.1f} MiB" for kind in ("uss", "pss", "rss")))


if __name__ == "__main__":
    main()
