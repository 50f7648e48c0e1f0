"""The search: for a flow, every command it takes, each side of it, each fault; one history a point.

`record` runs the flow undisturbed and counts; `points` is every place that was seen; `attempt` runs the flow with one
fault at one place. Called by the tests and by `python -m tests.fault` (make fault), which also writes the table of
docs/reliability.md.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

from tests.fault.faults import FAULTS, Fault
from tests.fault.flows import MOST, Flow
from tests.fault.history import Verdict
from tests.fault.proxy import Event, Rule, Side
from tests.fault.proxy import Verdict as Next
from tests.fault.stage import Stage

RECORDINGS = 2  # runs of a flow before the search: what it takes varies a little
TURNS = 5  # times a flow is set going within one history, until it has come to its point


@dataclass(frozen=True, slots=True)
class Point:
    """The number-th command of this verb of this role since the flow began, before it is executed or after.
    `sure`: every recording came there; else only some did, and whether a run does is a matter of timing."""

    role: str
    verb: str
    number: int
    side: Side
    sure: bool = True

    def __str__(self) -> str:
        return f"{self.side} {self.role} {self.verb} #{self.number}"


@dataclass(frozen=True, slots=True)
class Result:
    """`reached`: the fault happened. `seconds`: from the fault (or the start) until everything was calm and done."""

    flow: str
    point: Point
    fault: str
    reached: bool
    verdict: Verdict
    seconds: float

    def __str__(self) -> str:
        return f"{self.flow}: {self.fault} {self.point}: {self.verdict}"


Seen = Counter[tuple[str, str, Side]]


def record(stage: Stage, flow: Flow) -> tuple[Seen, Seen]:
    """How often each command is seen at each side while the flow takes its course: at most, and at least. Raises AssertionError
    if even that is unsound."""
    recordings = []
    for _ in range(RECORDINGS):
        tag = stage.begin()
        stage.proxy.arm()
        flow.start(stage, tag)
        verdict = stage.finish()
        assert verdict.sound and not verdict.explained, f"{flow.name} without any fault: {verdict}"
        seen = Counter((e.role, e.verb, e.side) for e in stage.proxy.events if flow.counts(e.role, e.verb))
        recordings.append(seen)
    return reduce(or_, recordings), reduce(and_, recordings)


def points(most: Seen, least: Seen) -> list[Point]:
    return [
        Point(role, verb, n, side, sure=n <= least[role, verb, side])
        for (role, verb, side), count in sorted(most.items())
        for n in range(1, min(count, MOST) + 1)
    ]


def fits(fault: Fault, point: Point) -> bool:
    """Whether the fault makes sense there."""
    if fault.name == "NOSCRIPT" and (point.verb.isupper() or " " in point.verb):
        return False
    return point.role in fault.hits and point.side in fault.sides


def attempt(stage: Stage, flow: Flow, point: Point, fault: Fault) -> Result:
    """One history with one fault at one place. What a flow takes varies with the pace of its workers: it is set going again, and
    counted on, until it has come to the point."""
    tag = stage.begin()

    def act(event: Event) -> Next:
        return fault.act(stage, event)

    rule = Rule(act, point.role, point.verb, point.side, point.number)
    stage.rest(fault.respawned(point.role))
    stage.proxy.arm(rule)
    started = time.monotonic()
    for turn in range(TURNS):
        flow.start(stage, f"{tag}{turn}")
        stage.calm()
        if rule.fired.is_set():
            break
    stage.proxy.disarm()
    stage.calm()  # again: the fault may have struck just after it was calm, when idle workers renew their waiting
    verdict = stage.verdict()
    since = rule.event.at if rule.event is not None else started
    return Result(flow.name, point, fault.name, rule.fired.is_set(), verdict, time.monotonic() - since)


def search(stage: Stage, flow: Flow, faults: Iterable[str]) -> Iterator[Result]:
    """All points of the flow with all these faults."""
    found = points(*record(stage, flow))
    for name in faults:
        fault = FAULTS[name]
        for point in found:
            if fits(fault, point):
                yield attempt(stage, flow, point, fault)
