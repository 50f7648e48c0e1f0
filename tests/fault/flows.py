"""The flows whose every command is a crash point: how each is set going, and whose commands count.

Not the faults and not the search (`tests.fault.points`). A flow starts from calm; what it enqueued it tells the stage,
so the checker knows.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from jobqueue import JobQueue
from jobqueue.errors import JobQueueError, OutcomeUnknown, ServerRefused, Unavailable
from tests.fault.proxy import Cut, Rule
from tests.fault.stage import LEAP_DAYS, QUEUES, TICK, WORKERS, Stage
from tests.support.waiting import eventually

MOST = 3  # occurrences of one verb of one role, at one side, that are tried
LEAVERS = 2.0  # seconds within which a steward is done with the workers of an old generation
HAND_BACKS = 8.0  # seconds within which a steward should have found that many reasons to hand back
Start = Callable[[Stage, str], None]
CONNECTING = frozenset(
    {"CLIENT SETNAME", "CLIENT ID", "INFO", "SADD", "SMEMBERS", "TIME", "SCRIPT LOAD", "join", "reconcile"}
)


@dataclass(frozen=True, slots=True)
class Flow:
    """`verbs`: whose commands are points, by role (None: all the role sends)."""

    name: str
    start: Start
    verbs: dict[str, frozenset[str] | None]

    def counts(self, role: str, verb: str) -> bool:
        if role not in self.verbs:
            return False
        wanted = self.verbs[role]
        return wanted is None or verb.partition(":")[0] in wanted


def insist(stage: Stage, name: str, *, direct: bool = False, **options: object) -> None:
    """Enqueue with an id, again and again until accepted: harmless, says the library. `direct`: not through the proxy."""
    with JobQueue(stage.server.url) if direct else stage.producer() as queue:
        deadline = time.monotonic() + 20
        while True:
            try:
                payload = {"path": str(stage.path), "name": name}
                queue.enqueue("fault:work", payload, id=name, queue="default", **options)  # type: ignore[arg-type]
                stage.expect(name)
                return
            except (Unavailable, ServerRefused):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _plain(stage: Stage, tag: str) -> None:
    """Without an id an unknown outcome stays unknown: the job is in, or it is not, and never twice."""
    name = f"{tag}plain"
    with stage.producer() as queue:
        try:
            queue.enqueue("fault:work", {"path": str(stage.path), "name": name}, queue="default")
            stage.expect(name)
        except OutcomeUnknown:
            stage.expect(name, sure=False)
        except JobQueueError:
            return  # certainly not in: nothing is expected, and a run would be unexpected


def _unique(stage: Stage, tag: str) -> None:
    insist(stage, f"{tag}unique", unique=f"{tag}key")


def _delayed(stage: Stage, tag: str) -> None:
    insist(stage, f"{tag}delayed", delay=0.15)


def _ack(stage: Stage, tag: str) -> None:
    stage.push(f"{tag}ack")


def _equal(stage: Stage, tag: str) -> None:
    """Six equal payloads in one push: both workers wake, some jobs are claimed ahead."""
    stage.push(*[f"{tag}equal"] * 6, type_="fault:quick")


def _wait(stage: Stage, tag: str) -> None:
    """Idle workers renew their waiting; a job that comes after the fault is run all the same."""
    end = time.monotonic() + 1.3
    eventually(lambda: time.monotonic() > end or (stage.proxy.armed() is False), 5)
    stage.push(f"{tag}wait")


def _retry(stage: Stage, tag: str) -> None:
    stage.push(f"{tag}retry", fail=1)


def _bury(stage: Stage, tag: str) -> None:
    stage.push(f"{tag}bury", bury=True, end="dead")


def _promote(stage: Stage, tag: str) -> None:
    """Enqueued beside the proxy: only what follows is under its eyes."""
    for i, delay in enumerate((0.1, 0.1, 0.2)):
        insist(stage, f"{tag}promote{i}", direct=True, delay=delay)


def _recover(stage: Stage, tag: str) -> None:
    stage.push(f"{tag}recover", crash=1)


def _hand_back(stage: Stage, tag: str) -> None:
    """A type known to be short; then one of it takes long while others are held behind it. Whether a worker claims ahead is a matter
    of its measured pace, so this is done again until a steward has handed back as often as points are tried, or the fault has struck."""

    def enough() -> bool:
        return stage.proxy.armed() is False or stage.proxy.seen("steward", "hand_back", "after") >= MOST

    deadline = time.monotonic() + HAND_BACKS
    for n in itertools.count():
        names = [f"{tag}long{n}-{i}" for i in range(WORKERS)]
        stage.push(*[f"{tag}warm{n}-{i}" for i in range(80)], type_="fault:quick")
        for name in names:
            stage.push(name, type_="fault:quick", ms=150)
            stage.push(*[f"{name}-held{i}" for i in range(8)], type_="fault:quick")
        eventually(lambda names=names: enough() or over(stage, names), 20, what="the long jobs' end")  # type: ignore[misc]
        if enough() or time.monotonic() > deadline:
            return


def begun(stage: Stage, names: list[str]) -> int:
    """How many of these jobs have begun to run."""
    return len(set(names) & {run.name for run in stage.runs()})


def over(stage: Stage, names: list[str]) -> bool:
    """Whether each of these jobs has run to its end."""
    return set(names) <= {run.name for run in stage.runs() if run.end}


def _reconcile(stage: Stage, tag: str) -> None:
    """A first cut, after a settlement was carried out; then everything the new connection says is a point."""
    stage.proxy.add(Rule(lambda _event: Cut(), role="worker", verb="settle:A", side="after"))
    stage.push(f"{tag}reconcile")


def _drain(stage: Stage, tag: str) -> None:
    """TERM while jobs run and others wait; what is left is run by the next jqd."""
    names = [f"{tag}drain{i}" for i in range(4)]
    stage.push(*names, ms=80)
    eventually(lambda: begun(stage, names) >= WORKERS or gone(stage), 10, what="two jobs that run")
    if not gone(stage):
        stage.jqd.send(signal.SIGTERM)


def _reload(stage: Stage, tag: str) -> None:
    """Over when a steward is done with those who left, too, which is some milliseconds later; or the fault has struck."""
    names = [f"{tag}reload{i}" for i in range(4)]
    stage.push(*names, ms=80)
    eventually(lambda: begun(stage, names) >= 1 or gone(stage), 10, what="a job that runs")
    known = len(ended(stage))
    if not gone(stage):
        stage.jqd.send(signal.SIGHUP)
        eventually(lambda: len(ended(stage)) > known or gone(stage), 30, what="the reload's end")
        enough, deadline = WORKERS * len(QUEUES), time.monotonic() + LEAVERS
        while stage.proxy.armed() is not False and time.monotonic() < deadline:
            if gone(stage) or stage.proxy.seen("steward", "recover", "after") >= enough:
                return
            time.sleep(0.002)


def gone(stage: Stage) -> bool:
    """Whether the master has ended; the calm that follows starts another."""
    return stage.jqd.process is None or stage.jqd.process.poll() is not None


def ended(stage: Stage) -> list[str]:
    """How reloads ended."""
    return [
        e["event"]
        for e in stage.jqd.events("reload")
        if e["event"] in ("reloaded", "reload failed", "reload rolled back")
    ]


def _tick(stage: Stage, tag: str) -> None:
    """The last tick lies years back; a steward that is cut off and asks again finds one that was missed."""
    key, last = "jq:{default}:cron:leap", b""
    stage.expect(TICK)
    stage.client.set(key, f"1 {LEAP_DAYS} UTC")
    for connection in stage.client.client_list():
        if connection["name"] == "jqd:steward":
            stage.client.client_kill_filter(_id=connection["id"])

    def ticked() -> bool:
        nonlocal last
        with contextlib.suppress(redis.ConnectionError):  # a fault restarts the server just now
            last = stage.client.get(key) or b""
        return int(last.split()[0]) > 1

    eventually(ticked, 30, what="the tick")


WORKING = {"worker": None}
_STEWARD_RECOVERS = frozenset({"fence", "recover"})
_LEAVING = frozenset({"settle", "retire"})
_LIST = (
    Flow("enqueue", _plain, {"producer": None}),
    Flow("enqueue unique", _unique, {"producer": None}),
    Flow("enqueue delayed", _delayed, {"producer": None}),
    Flow("claim and ack", _ack, WORKING),
    Flow("equal payloads", _equal, WORKING),
    Flow("wait", _wait, WORKING),
    Flow("retry", _retry, {"worker": None, "steward": frozenset({"BLPOP", "promote"})}),
    Flow("bury", _bury, WORKING),
    Flow("promote", _promote, {"steward": frozenset({"BLPOP", "promote"})}),
    Flow("recover", _recover, {"steward": _STEWARD_RECOVERS, "worker": None}),
    Flow("hand back", _hand_back, {"steward": frozenset({"hand_back"}), "worker": frozenset({"settle"})}),
    Flow("reconcile", _reconcile, {"worker": CONNECTING | {"settle"}}),
    Flow("drain", _drain, {"worker": _LEAVING, "steward": frozenset({"leases", *_STEWARD_RECOVERS})}),
    Flow("cron tick", _tick, {"steward": frozenset({"last_tick", "tick"})}),
    Flow("reload", _reload, {"worker": _LEAVING | {"join"}, "steward": _STEWARD_RECOVERS}),
)
FLOWS = {flow.name: flow for flow in _LIST}
