"""The worker's loop on a port of the test's own: what it does when time passes at the wrong moment."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from jobqueue import codec
from jobqueue.account import Account
from jobqueue.handlers import Registry, TypePolicy
from jobqueue.kinds import RUNS_KNOWN, Kinds
from jobqueue.memory import MemoryQueue
from jobqueue.port import Claim, NewJob, Settlement
from jobqueue.runner import IDLE, Runner
from jobqueue.settings import QueueSettings
from jobqueue.surroundings import Surroundings
from jobqueue.worker import Worker


class Watched:
    """A session on the in-memory queue that notes trips; with nothing to do it stops the worker."""

    def __init__(self) -> None:
        self.queue = MemoryQueue({})
        self.trips: list[tuple[int, int, int]] = []  # settled, kept, claimed
        self.worker: Worker | None = None

    @property
    def port(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)

    def settle(self, worker: str, trip: int, applied: int, home: str, done: Sequence[Settlement], keep: int, order: Sequence[str], want: int, return_next: bool) -> Claim:  # fmt: skip
        n = len(done)
        claim = self.queue.settle(worker, trip, applied, home, done, keep, order, want, return_next)
        self.trips.append((n, keep, len(claim.jobs)))
        return claim

    def wait(self, queues: Sequence[str], timeout: float) -> Sequence[str]:
        assert self.worker is not None
        self.worker.stopping = True
        return ()

    def settled(self) -> bool:
        return False

    def owes(self) -> bool:
        return False

    def close(self) -> None: ...


class Board:
    """A scoreboard row; `stall` maps a job's id to seconds for which the process is held up just after its row is written."""

    def __init__(self) -> None:
        self.stall: dict[bytes, float] = {}
        self.started: list[bytes] = []

    def ready(self, flag: bool) -> None: ...
    def beat(self, *_: Any) -> None: ...
    def claimed(self, trip: int, held: int, queue: bytes) -> None: ...
    def idle(self, done: int, busy_ns: int) -> None: ...

    def start(self, number: int, started: int, held: int, start_ns: int, soft_ns: int, hard_ns: int, job_id: bytes, type_: bytes) -> None:  # fmt: skip
        self.started.append(job_id)
        time.sleep(self.stall.pop(job_id, 0.0))


class Meter:
    def ran(self, queue: str, type_: str, how: str, seconds: Sequence[float]) -> None: ...
    def waited(self, queue: str, seconds: Sequence[float]) -> None: ...
    def lost(self, queue: str, n: int) -> None: ...
    def flush(self) -> None: ...


@pytest.fixture
def ran() -> list[str]:
    return []


def make(ran: list[str], *queues: str) -> tuple[Watched, Board, Worker]:
    registry = Registry()

    def tiny(name: str) -> None:
        ran.append(name)

    registry.add(tiny, TypePolicy("tiny"))
    session, board = Watched(), Board()

    def log(event: str, fields: Mapping[str, Any]) -> None:
        raise AssertionError(f"{event} {fields}")

    around = Surroundings(
        connect=lambda: session,
        pause=lambda seconds: None,
        board=board,
        meter=Meter(),
        log=log,
        title=lambda text: None,
        recycle_due=lambda done: False,
    )
    kinds = Kinds(registry.prepare(), lambda queue: QueueSettings(), 1.0, 64)  # a slow machine must not end a batch
    kind = kinds.get("default", "tiny")
    for _ in range(RUNS_KNOWN + 40):
        kinds.ran(kind, 0.00001)
    worker = Worker("w", queues or ("default",), None, kinds, around, random.Random(1))
    session.worker = worker
    return session, board, worker


def push(session: Watched, n: int) -> None:
    session.queue.enqueue(
        [NewJob("default", str(i), b'{"type":"tiny","id":"%d","payload":{"name":"%d"}}' % (i, i)) for i in range(n)]
    )


def test_what_was_claimed_together_is_run_in_order_and_settled(ran: list[str]) -> None:
    session, _, worker = make(ran)
    push(session, 10)
    assert worker.run() == "stopping"
    assert ran == [str(i) for i in range(10)]
    assert session.trips[0] == (0, 0, 10)
    assert sum(settled for settled, _, _ in session.trips) == 10


def test_a_held_job_is_not_started_when_the_process_was_held_up_since_the_last_trip(ran: list[str]) -> None:
    """A steward may have handed it back meanwhile, believing that the job before it still ran."""
    session, board, worker = make(ran)
    push(session, 10)
    board.stall[b"4"] = 0.03
    assert worker.run() == "stopping"
    assert ran == [str(i) for i in range(10)], "each once, in order"
    assert session.trips[0] == (0, 0, 10)
    assert board.started.count(b"4") == 2


def test_the_first_job_of_a_trip_is_started_however_late(ran: list[str]) -> None:
    session, board, worker = make(ran)
    push(session, 1)
    board.stall[b"0"] = 0.03
    assert worker.run() == "stopping"
    assert board.started == [b"0"]
    assert ran == ["0"]


def test_a_worker_that_still_owes_settlements_does_not_leave(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue's server is away: left now, what is finished would run again though nobody died."""
    session, _, worker = make(ran)
    answers = [True, True, False]
    monkeypatch.setattr(session, "owes", lambda: answers.pop(0))
    worker.stopping = True
    assert worker.run() == "stopping"
    assert answers == []
    assert len(session.trips) == 3, "each of them a chance to settle"


def test_a_worker_refused_by_a_queue_leaves(ran: list[str]) -> None:
    session, _, worker = make(ran, "default", "other")
    session.queue.join("w", worker.queues, 1000)
    worker._joined = True
    session.queue.fence("w", "other")
    session.queue.enqueue([NewJob("other", "x", b'{"type":"tiny","id":"x","payload":{"name":"x"}}')])
    assert worker.run() == "fenced"
    assert ran == []
    assert session.queue.state("other").pending


def test_the_title_of_a_worker_says_what_it_does_but_not_for_each_brief_job() -> None:
    """A title costs more than a tiny job; so it names the long ones, and else says "busy" after a while."""
    titles: list[str] = []
    registry = Registry()

    def nap() -> None: ...

    registry.add(nap, TypePolicy("nap"))
    around = Surroundings(
        connect=Watched, pause=lambda seconds: None, board=Board(), meter=Meter(), log=lambda *_: None, title=titles.append,
        recycle_due=lambda done: False,
    )  # fmt: skip
    kinds = Kinds(registry.prepare(), lambda queue: QueueSettings(), 0.005, 64)
    runner, kind = Runner(Account("default"), kinds, around, random.Random(1)), kinds.get("default", "nap")

    def run() -> None:
        element = b'{"type":"nap","id":"abcdefgh","payload":{}}'
        runner.run(kind, codec.decode(element), element, None, time.monotonic_ns())

    runner.show(IDLE)
    run()
    assert titles == ["idle", "nap abcdef"], "nobody knows yet how long it takes"
    for _ in range(RUNS_KNOWN):
        kinds.ran(kind, 0.01)
    run()
    run()
    assert titles[2:] == ["busy"]
    runner.show(IDLE)
    run()
    assert titles[3:] == ["idle"]
    runner.busy()
    runner.busy()
    assert titles[4:] == ["busy"]
    for _ in range(50):
        kinds.ran(kind, 1.0)
    run()
    assert titles[5:] == ["nap abcdef"]
