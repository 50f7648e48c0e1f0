"""Judges a history, in the manner of Jepsen's total-queue: what was accepted, what ran, what is in Redis at the end.

Pure, and ignorant of how anything works: it knows the promises and nothing else. With equal names it compares counts. A
job that ran twice must be explained by a named fault that hit the very process of the run before; nothing else excuses
it. Fed by `tests.fault.reading`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Final = Literal["done", "dead", "discarded"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a handler. `end`: how it says it ended; "" if it said nothing. Times: monotonic seconds; 0 if it did not end.
    `crashes`: how many runs of the job before it ended with a crash it was charged with."""

    name: str
    pid: int
    began: float
    ended: float
    end: str
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Blow:
    """A fault that may cost a run: a process killed at that time, or frozen from then `until` and taken for dead meanwhile."""

    fault: str
    pid: int
    at: float
    until: float = 0.0

    def costs(self, run: Run, slack: float) -> bool:
        """Whether the run was going on, or over but not settled, when it struck."""
        if self.pid != run.pid or run.began > max(self.at, self.until):
            return False
        return not run.ended or self.at - run.ended <= slack


@dataclass(frozen=True, slots=True)
class Content:
    """Redis at the end. `waiting`: names in pending, next and scheduled. `held`: entries left in processing lists and `next`, by key.
    `stray`: anything that speaks of workers that are gone, by key. `unique`: keys held, with their job ids.
    `finals`: what the queues' own counters say has ended, since the history began."""

    waiting: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    held: Mapping[str, int] = field(default_factory=dict)
    stray: Mapping[str, str] = field(default_factory=dict)
    unique: Mapping[str, str] = field(default_factory=dict)
    finals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    """`accepted`: jobs surely in. `doubtful`: enqueues of unknown outcome: in, or not.
    `ends`: how each name must end. `outages`: (from, until) in which workers could not reach Redis, so did not settle."""

    accepted: Counter[str]
    doubtful: Counter[str]
    ends: Mapping[str, Final]
    runs: Sequence[Run]
    blows: Sequence[Blow]
    content: Content
    outages: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Sentences. `explained` are reruns with their faults: allowed."""

    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    finalised_twice: tuple[str, ...] = ()
    leaked: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected or self.finalised_twice or self.leaked)

    def __str__(self) -> str:
        found = [f"{what}: {', '.join(map(str, words))}" for what in KINDS if (words := getattr(self, what))]
        return "; ".join(found) or "sound"


KINDS = ("lost", "duplicated", "unexpected", "finalised_twice", "leaked")
SLACK = 0.5  # seconds between a job's end and its settlement, on a machine with more to do than it can


def judge(history: History) -> Verdict:
    """Every promise, checked."""
    planned = [Blow("planned crash", run.pid, run.ended) for run in history.runs if run.end == "crash"]
    history = replace(history, blows=[*history.blows, *planned])
    duplicated, explained = _reruns(history)
    lost, unexpected, twice = _totals(history)
    return Verdict(lost, duplicated, (*unexpected, *_wrong_ends(history)), twice, _leaks(history.content), explained)


def _totals(history: History) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names against names, then the queues' own counters against the number of jobs."""
    lost, unexpected, twice = [], [], []
    completed = Counter(run.name for run in history.runs if run.end == "end")
    buried = Counter(run.name for run in history.runs if run.end == "bury") | history.content.dead
    for name, n in history.accepted.items():
        seen = max(completed[name], 0) + history.content.waiting[name] + buried[name]
        if seen < n:
            lost.append(f"{name} ({n - seen} of {n})")
    known = history.accepted + history.doubtful
    everywhere = completed + history.content.waiting + history.content.dead
    unexpected += [f"{name} was never enqueued" for name in everywhere if not known[name]]
    for name, n in (history.content.waiting + history.content.dead).items():
        if n > known[name]:
            twice.append(f"{name}: {n} entries of {known[name]} jobs")
    finals = sum(history.content.finals.values()) + history.content.waiting.total()
    least, most = history.accepted.total(), known.total()
    if finals > most:
        twice.append(f"{finals} ends of {most} jobs ({dict(history.content.finals)})")
    if finals < least:
        lost.append(f"{finals} ends of {least} jobs ({dict(history.content.finals)})")
    return tuple(lost), tuple(unexpected), tuple(twice)


def _wrong_ends(history: History) -> list[str]:
    """In the dead queue without reason, or done although it had to be buried."""
    wrong = []
    completed = {run.name for run in history.runs if run.end == "end"}
    for name, end in history.ends.items():
        if end == "dead" and name in completed:
            wrong.append(f"{name} is done, it should be dead")
        if end != "dead" and history.content.dead[name]:
            wrong.append(f"{name} is dead, it should be {end}")
    return wrong


def _reruns(history: History) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Runs beyond the planned ones. A run that failed or crashed as planned is followed by another; one that was killed too."""
    copies = history.accepted + history.doubtful
    by_name: dict[str, list[Run]] = {}
    for run in history.runs:
        by_name.setdefault(run.name, []).append(run)
    duplicated, explained = [], []
    for name, runs in by_name.items():
        spare = copies[name]  # a run without cause is each job's own first one
        runs.sort(key=lambda run: run.began)
        causes = [cause for run in runs if (cause := _why_again(run, history))]
        allowed = spare + len(causes)
        again = len(runs) - spare - causes.count("planned")
        explained += [f"{name}: {cause}" for cause in causes if cause != "planned"][: max(0, again)]
        if len(runs) > allowed:
            told = "; ".join(f"{run.pid} {run.began:.3f}-{run.ended:.3f} {run.end or '?'}" for run in runs)
            duplicated.append(f"{name} ran {len(runs)} times, {allowed} explained ({told})")
    return tuple(duplicated), tuple(explained)


def _why_again(run: Run, history: History) -> str | None:
    """Why a run may be followed by another of the same job."""
    if run.end in ("fail", "crash"):
        return "planned"
    for blow in history.blows:
        if blow.pid == run.pid and blow.costs(run, SLACK + _outage(run.ended, blow.at, history)):
            return blow.fault
    return None


def _outage(since: float, until: float, history: History) -> float:
    """Seconds of outage that overlap the time between."""
    return sum(max(0.0, min(end, until) - max(start, since)) for start, end in history.outages)


def _leaks(content: Content) -> tuple[str, ...]:
    held = [f"{n} in {key}" for key, n in content.held.items() if n]
    stray = [f"{key}: {what}" for key, what in content.stray.items()]
    unique = [f"unique key {key} of {job_id}" for key, job_id in content.unique.items()]
    return (*held, *stray, *unique)
