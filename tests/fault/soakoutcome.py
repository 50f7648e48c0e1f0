"""What a soak came to: as text, as a line of a file, and, of several such lines, the tables of docs/reliability.md.

`python -m tests.fault.soakoutcome FILE…` prints the tables. Not the judgement (`tests.fault.history`), whose verdict is reported here.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.fault.history import KINDS, Blow, Run, Verdict

SLOW: Final = 5.0  # seconds from which a recovery is told with what happened meanwhile


@dataclass(frozen=True, slots=True)
class Recovery:
    """From a kill in the middle of a run to the next run of the same job. `meanwhile`: faults in between, if it took long."""

    fault: str
    seconds: float
    meanwhile: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`faults`: how often each happened. `found`: by kind, what breaks a promise. `strange`: ends of a jqd that nobody asked for."""

    seed: int
    minutes: float
    jobs: int
    doubtful: int
    runs: int
    hosts: int
    faults: Mapping[str, int]
    found: Mapping[str, Sequence[str]]
    explained: Mapping[str, int]
    recoveries: Sequence[Recovery]
    strange: Sequence[str]

    @classmethod
    def of(cls, soak: Any, minutes: float, verdict: Verdict, runs: Sequence[Run]) -> Outcome:
        """`soak`: a `tests.fault.soak.Soak` that is over."""
        return cls(
            seed=soak.seed,
            minutes=minutes,
            jobs=soak.accepted.total(),
            doubtful=soak.doubtful.total(),
            runs=len(runs),
            hosts=len(soak.hosts),
            faults=dict(Counter(what for _, what, _ in soak.struck_at)),
            found={kind: getattr(verdict, kind) for kind in KINDS},
            explained=dict(Counter(line.partition(": ")[2] for line in verdict.explained)),
            recoveries=recoveries(runs, soak.blows, soak.struck_at),
            strange=[line for host in soak.hosts for line in host.strange],
        )

    @property
    def sound(self) -> bool:
        return not any(self.found.values()) and not self.strange

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.jobs} jobs accepted, {self.doubtful} in doubt, {self.runs} runs, {self.hosts} hosts",
            f"faults: {sum(self.faults.values())}: {counted(self.faults)}",
        ]
        for kind, words in self.found.items():
            lines += [f"{kind}: {len(words)}", *(f"  {word}" for word in words[:20])]
        lines.append(
            f"cut short or repeated, each explained: {sum(self.explained.values())}: {counted(self.explained)}"
        )
        lines += [f"back at work after {fault}: {told}" for fault, told in spread(self.recoveries).items()]
        lines += [f"  {r.fault} {r.seconds:.1f} s: {'; '.join(r.meanwhile)}" for r in self.recoveries if r.meanwhile]
        lines += [f"strange: {line}" for line in self.strange]
        return "\n".join([*lines, f"verdict: {'sound' if self.sound else 'NOT SOUND'}"])


def recoveries(runs: Sequence[Run], blows: Sequence[Blow], strokes: Sequence[tuple[float, str, int]]) -> list[Recovery]:
    """Each kill that cut a run short, with the time until that job ran again."""
    by_name: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.began):
        by_name[run.name].append(run)
    kills = [*blows, *(Blow("planned crash", run.pid, run.ended) for run in runs if run.end == "crash")]
    by_pid: dict[int, list[Blow]] = defaultdict(list)
    for blow in kills:
        if not blow.until:
            by_pid[blow.pid].append(blow)
    found = []
    for mine in by_name.values():
        for run, after in itertools.pairwise(mine):
            cause = next((b for b in by_pid[run.pid] if run.end in ("", "crash") and b.at >= run.began), None)
            if cause is not None:
                seconds = after.began - cause.at
                between = [
                    f"{what} {at - cause.at:+.1f} s" for at, what, _ in strokes if cause.at - 3 < at < after.began
                ]
                fault = cause.fault if after.crashes < 2 else f"{cause.fault}, not the job's first crash: backoff"
                found.append(Recovery(fault, seconds, tuple(between) if seconds > SLOW else ()))
    return found


def spread(found: Sequence[Recovery]) -> dict[str, str]:
    """By fault: how many, median, p99, max."""
    by_fault: dict[str, list[float]] = defaultdict(list)
    for one in found:
        by_fault[one.fault].append(one.seconds)
    told = {}
    for fault, seconds in sorted(by_fault.items()):
        seconds.sort()
        p99 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
        told[fault] = (
            f"{len(seconds)} times, median {statistics.median(seconds):.2f} s, p99 {p99:.1f} s, max {seconds[-1]:.1f} s"
        )
    return told


def counted(of: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {n}" for what, n in sorted(of.items(), key=lambda pair: (-pair[1], pair[0])))


def tables(outcomes: Sequence[Outcome]) -> str:
    """A row a soak; the faults by kind; the recoveries of all of them."""
    lines = [
        "| seed | minutes | jobs | faults | lost | without cause twice | finalised twice | leaked | cut short or repeated, with their cause |",
        "|---" * 9 + "|",
    ]
    for o in outcomes:
        bad = [len(o.found[kind]) for kind in ("lost", "duplicated", "finalised_twice", "leaked")]
        row = [o.seed, f"{o.minutes:g}", f"{o.jobs:,}", sum(o.faults.values()), *bad, counted(o.explained)]
        lines.append(f"| {' | '.join(map(str, row))} |")
    faults: Counter[str] = sum((Counter(o.faults) for o in outcomes), Counter())
    minutes, jobs = sum(o.minutes for o in outcomes), sum(o.jobs for o in outcomes)
    lines += ["", f"{minutes:g} minutes, {jobs:,} jobs, {faults.total():,} faults: {counted(faults)}.", ""]
    lines += ["| cause | times, median, p99, max |", "|---|---|"]
    every = [recovery for o in outcomes for recovery in o.recoveries]
    lines += [f"| {fault} | {told} |" for fault, told in spread(every).items()]
    return "\n".join(lines)


def read(path: Path) -> list[Outcome]:
    found = []
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        fields["recoveries"] = [Recovery(r["fault"], r["seconds"], tuple(r["meanwhile"])) for r in fields["recoveries"]]
        found.append(Outcome(**fields))
    return found


if __name__ == "__main__":
    print(tables([outcome for name in sys.argv[1:] for outcome in read(Path(name))]))
