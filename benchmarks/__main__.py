"""`make bench`: this project alone, some minutes, unattended. Writes results/bench.json and results/bench.md.

    python -m benchmarks [--quick] [--rounds 3] [--only drain]

Cases take turns (each once a round, on a fresh server), so that what else the machine does hits all of them; the table tells medians
of the rounds and their spread. `--quick`: tiny sizes, to see that everything runs; writes nothing unless `--out` says where.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import drain, idle, latency, lateness, overhead, produce, recovery
from benchmarks.ground import RESULTS, Ground, ground, machine, median, percentile, publish

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """`once`: takes long and has many figures of its own, so one round will do."""

    name: str
    run: Callable[[Ground], Figures]
    once: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """A line of the table. `figure` is `case.figure`; `most`: less is better."""

    text: str
    figure: str
    unit: str
    bound: float | None = None
    most: bool = False


GOALS = [
    Goal("drain of no-op jobs, 2 workers, Unix socket", "drain unix.per_second", "jobs/s", 125_000),
    Goal("the same, TCP loopback", "drain tcp.per_second", "jobs/s", 125_000),
    Goal("the same, `claim_max: 1`, Unix socket", "drain unix 1.per_second", "jobs/s", 20_000),
    Goal("bare processes that only take one job at a time, Unix socket", "drain unix 1.floor_per_second", "jobs/s"),
    Goal("the same, `claim_max: 1`, TCP loopback", "drain tcp 1.per_second", "jobs/s"),
    Goal("bare processes, TCP loopback", "drain tcp 1.floor_per_second", "jobs/s"),
    Goal("`enqueue` in a loop, one process, Unix socket", "enqueue.per_second", "jobs/s", 10_000),
    Goal("`enqueue_many`, one process, Unix socket", "enqueue_many.per_second", "jobs/s", 300_000),
    Goal("`jqctl enqueue --file`", "jqctl file.per_second", "jobs/s"),
    Goal("greatest memory of that `jqctl`", "jqctl file.max_rss_mib", "MiB"),
    Goal("LPUSH to handler start, idle, 3 queues: median", "latency.p50_us", "µs", 200, True),
    Goal("the same: p99", "latency.p99_us", "µs", 1000, True),
    Goal("a bare process that only waits and takes: median", "latency.floor_p50_us", "µs"),
    Goal("delayed job's lateness, many scheduled: median", "lateness.p50_ms", "ms"),
    Goal("the same: p99", "lateness.p99_ms", "ms", 5, True),
    Goal("jobs of 10 ms: over sleeping alone", "overhead.percent", "%", 3, True),
    Goal("kill -9 of a worker to the job's next start: median", "recovery.worker_ms", "ms"),
    Goal("the same: maximum", "recovery.worker_max_ms", "ms"),
    Goal("kill -9 of worker and steward: median", "recovery.steward_ms", "ms"),
    Goal("kill -9 of everything, started again: median", "recovery.all_ms", "ms", 1000, True),
    Goal("idle, 4 workers of 3 queues: CPU of the whole tree", "idle.cpu_percent", "% of a core"),
    Goal("idle: commands at Redis", "idle.commands", "a second"),
    Goal("memory of an idle worker (USS)", "idle.uss", "MiB", 6, True),
]


def cases(scale: float) -> list[Case]:
    """`scale`: 1 for the real sizes."""

    def size(n: int, least: int = 20) -> int:
        return max(least, int(n * scale))

    def drained(tcp: bool, claim_max: int, jobs: int) -> Callable[[Ground], Figures]:
        return lambda place: {"per_second": drain.figures(place, size(jobs, 2000), tcp=tcp, claim_max=claim_max)[0]}

    def single(tcp: bool) -> Callable[[Ground], Figures]:
        def measured(place: Ground) -> Figures:
            bare = drain.floor(place, size(80_000, 2000), tcp=tcp)
            return {**drained(tcp, 1, 80_000)(place), "floor_per_second": bare}

        return measured

    def waited(place: Ground) -> Figures:
        found, bare = latency.figures(place, size(1000)), latency.floor(place, size(1000))
        return {
            "p50_us": median(found), "p99_us": percentile(found, 0.99), "max_us": max(found), "floor_p50_us": median(bare),
            "floor_p99_us": percentile(bare, 0.99),
        }  # fmt: skip

    def delayed(place: Ground) -> Figures:
        found = lateness.figures(place, size(1_000_000), size(500))
        return {"p50_ms": median(found), "p99_ms": percentile(found, 0.99), "max_ms": max(found)}

    def recovered(place: Ground) -> Figures:
        found = recovery.figures(place.server, place.folder, size(50, 3), size(5, 1))
        worker, steward, everything = found.values()
        return {
            "worker_ms": median(worker), "worker_max_ms": max(worker), "steward_ms": median(steward), "all_ms": median(everything),
            "all_max_ms": max(everything),
        }  # fmt: skip

    def idled(place: Ground) -> Figures:
        found = idle.figures(place, max(3, 30 * scale), 4)
        return {name: found[name] for name in ("cpu_percent", "commands", "uss", "pss", "rss")}

    return [
        Case("drain unix", drained(False, 64, 400_000)),
        Case("drain tcp", drained(True, 64, 400_000)),
        Case("drain unix 1", single(False)),
        Case("drain tcp 1", single(True)),
        Case("enqueue", lambda place: produce.loop(place, size(20_000))),
        Case("enqueue_many", lambda place: produce.many(place, size(400_000))),
        Case("latency", waited),
        Case("overhead", lambda place: {"percent": overhead.figures(place, size(200), 1)[0]}),
        Case("lateness", delayed, once=True),
        Case("jqctl file", lambda place: produce.from_file(place, size(1_000_000)), once=True),
        Case("recovery", recovered, once=True),
        Case("idle", idled, once=True),
    ]


def measure(chosen: list[Case], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Case → figure → one number a round."""
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for case in chosen:
            if case.once and number:
                continue
            start = time.monotonic()
            with ground() as place:
                for name, figure in case.run(place).items():
                    found.setdefault(case.name, {}).setdefault(name, []).append(figure)
            told = ", ".join(f"{name} {figures[-1]:,.2f}" for name, figures in found[case.name].items())
            print(
                f"round {number + 1} of {rounds}: {case.name}: {told}  ({time.monotonic() - start:.0f} s)", flush=True
            )
    return found


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def table(found: dict[str, dict[str, list[float]]], where: dict[str, object]) -> str:
    """Markdown: what, figure, spread, goal."""
    lines = ["| | median | rounds | goal |", "|---|---:|---|---|"]
    for goal in GOALS:
        case, _, figure = goal.figure.partition(".")
        if (figures := found.get(case, {}).get(figure)) is None:
            continue
        middle = median(figures)
        spread = f"{number(min(figures))} – {number(max(figures))}" if len(figures) > 1 else ""
        wanted = ""
        if goal.bound is not None:
            met = middle <= goal.bound if goal.most else middle >= goal.bound
            wanted = f"{'≤' if goal.most else '≥'} {goal.bound:,g} {goal.unit}: {'met' if met else '**missed**'}"
        lines.append(f"| {goal.text} | {number(middle)} {goal.unit} | {spread} | {wanted} |")
    about = f"{where['processor']}, {where['cpus']} CPUs shared with the Redis server, Linux {where['kernel']}, Python {where['python']}"
    return "\n".join([*lines, "", f"{about}, {where['date']}; load before: {where['load_before']:.1f}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="cases whose name begins so")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    where = machine()
    chosen = [case for case in cases(0.01 if args.quick else 1) if case.name.startswith(args.only or "")]
    found = measure(chosen, 1 if args.quick else args.rounds)
    text = table(found, where)
    print(f"\n{text}")
    out = args.out or (None if args.quick or args.only else RESULTS)
    if out is not None:
        publish("bench", text, {"machine": where, "figures": found}, out)


if __name__ == "__main__":
    main()
