"""The model of docs/scale.md, fed with figures of a small size, and its predictions for a larger one beside what is measured there.

    python -m benchmarks.model [--quick] [--out DIR]

Small: 2 workers, 3 queues. Large: 8 workers, 6 queues. What the model knows of the large size are its numbers, nothing that was
measured there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ground import RESULTS, Ground, envelopes, fill, ground, machine, processed
from benchmarks.scale import ran_ns
from tests.support.waiting import eventually

SMALL, LARGE = (2, 3), (8, 6)  # workers, queues


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    predicted: float
    measured: float
    unit: str

    @property
    def off(self) -> float:
        return (self.measured / self.predicted - 1) * 100 if self.predicted else 0.0


def names(queues: int) -> list[str]:
    return [f"q{n}" for n in range(queues)]


def trip_cost(place: Ground, size: tuple[int, int], claim_max: int, jobs: int) -> tuple[float, float]:
    """(microseconds of the server's CPU a trip, jobs a trip) while so many no-op jobs are drained. Everything the server does is in it."""
    workers, queues = size
    client, served = place.client(), names(queues)
    pool = {"claim_max": claim_max}

    def trips() -> int:
        return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])

    with place.jqd(workers=workers, queues=served, pool=pool):
        fill(client, 2000, f"jq:{{{served[0]}}}:pending")  # the type becomes known as short
        eventually(lambda: processed(client, served) >= 2000, 60)
        for queue in served:
            client.set(f"jq:{{{queue}}}:paused", "benchmark")
            fill(client, jobs // queues, f"jq:{{{queue}}}:pending")
        time.sleep(1.5)
        before, was = trips(), ran_ns([place.server.pid])
        client.delete(*(f"jq:{{{queue}}}:paused" for queue in served))
        want = 2000 + jobs // queues * queues
        eventually(lambda: processed(client, served) >= want, 120, every=0.02)
        many, used = trips() - before, ran_ns([place.server.pid]) - was
    client.flushall()
    return used / many / 1000, (want - 2000) / many


def idle(place: Ground, size: tuple[int, int], seconds: float) -> dict[str, float]:
    """Connections of jqd, and commands a second that its processes send: parked calls, and all others."""
    workers, queues = size
    client = place.client()
    with place.jqd(workers=workers, queues=names(queues)) as one:
        eventually(lambda: "idle" in " ".join(one.titles("worker")), 20)
        time.sleep(2)
        connections = len([c for c in client.client_list() if c["name"].startswith("jqd")])

        def counts() -> dict[str, int]:
            sent = ("blmove", "evalsha", "blpop")
            stats = client.info("commandstats")
            return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in sent}

        before = counts()
        time.sleep(seconds)
        after = counts()
    client.flushall()
    rates = {name: (after[name] - before[name]) / seconds for name in after}
    return {"connections": connections, "parked": rates["blmove"], "steward": rates["evalsha"] + rates["blpop"]}


def paced(place: Ground, size: tuple[int, int], milliseconds: int, jobs: int) -> float:
    """Jobs a second of jobs that sleep so long."""
    workers, queues = size
    client, served = place.client(), names(queues)
    payload = '{"seconds":%g}' % (milliseconds / 1000)
    with place.jqd(workers=workers, queues=served):
        client.lpush(f"jq:{{{served[0]}}}:pending", *envelopes(jobs, "nap", payload))
        eventually(lambda: processed(client, served) >= workers * 4, 60, every=0.002)
        start, first = time.perf_counter(), processed(client, served)
        eventually(lambda: processed(client, served) >= jobs - workers * 4, 120, every=0.002)
        rate = (processed(client, served) - first) / (time.perf_counter() - start)
        eventually(lambda: processed(client, served) >= jobs, 60)
    client.flushall()
    return float(rate)


def memory(place: Ground, jobs: int) -> float:
    """Bytes a waiting job takes."""
    client = place.client()
    client.flushall()
    before = client.info("memory")["used_memory"]
    fill(client, jobs)
    used = client.info("memory")["used_memory"] - before
    client.flushall()
    return float(used / jobs)


def rows(scale: float) -> list[Row]:
    found = []
    jobs = max(3000, int(60_000 * scale))
    with ground() as place:
        # What a trip costs, what each job adds to it and what each queue does: three points at the small size make it.
        one, _ = trip_cost(place, (SMALL[0], 1), 1, jobs // 4)
        (t1, b1), (t2, b2) = trip_cost(place, SMALL, 1, jobs // 4), trip_cost(place, SMALL, 64, jobs)
        per_job, per_queue = (t2 - t1) / (b2 - b1), (t1 - one) / (SMALL[1] - 1)
        base = t1 - per_job * b1 - per_queue * SMALL[1]
        t, b = trip_cost(place, LARGE, 16, jobs)
        predicted = base + per_job * b + per_queue * LARGE[1]
        found.append(Row("server CPU of a trip, claim_max 16", predicted, t, "µs"))
        found.append(Row("jobs/s of one server at most (b / t)", b / predicted * 1e6, b / t * 1e6, ""))
        run = SMALL[0] / paced(place, SMALL, 50, 100)
        found.append(Row("jobs/s of the fleet, jobs of 50 ms", LARGE[0] / run, paced(place, LARGE, 50, 400), ""))
        small, large = idle(place, SMALL, 10 * scale + 2), idle(place, LARGE, 10 * scale + 2)
        found.append(Row("connections", connections(*LARGE, hosts=1), large["connections"], ""))
        found.append(Row("parked calls/s when idle", LARGE[0] * LARGE[1], large["parked"], ""))
        steward = small["steward"] / SMALL[1] * LARGE[1]
        found.append(Row("the steward's calls/s when idle", steward, large["steward"], ""))
        many = max(20_000, int(500_000 * scale))
        predicted, measured = memory(place, 5000) * many / 2**20, memory(place, many) * many / 2**20
        found.append(Row(f"memory of {many:,} waiting jobs", predicted, measured, "MiB"))
    print(f"t = {base:.1f} + {per_job:.2f} b + {per_queue:.2f} q µs; a 50 ms job takes {run * 1000:.1f} ms")
    return found


def connections(workers: int, queues: int, *, hosts: int, masters: int = 1) -> int:
    """Of workers and stewards. In a Cluster (`masters` > 1) each also has one to each master, and a steward listens queue by queue."""
    alarms = 1 if masters == 1 else min(queues, 16)
    return workers * (masters + min(queues, 16)) + hosts * (masters + alarms)


def table(found: Sequence[Row]) -> str:
    lines = ["| 8 workers, 6 queues | predicted | measured | off |", "|---|---:|---:|---:|"]
    lines += [
        f"| {r.what} | {r.predicted:,.1f} {r.unit} | {r.measured:,.1f} {r.unit} | {r.off:+.0f} % |" for r in found
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of jobs")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    where, text = machine(), table(rows(0.05 if args.quick else args.scale))
    about = f"{where['processor']}, {where['cpus']} CPUs shared by all, load before: {where['load_before']:.1f}, {where['date']}."
    print(f"{text}\n{about}")
    out = args.out or (None if args.quick else RESULTS)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.md").write_text(f"{text}\n{about}\n")


if __name__ == "__main__":
    main()
