"""All orders in which the commands of two stewards and the passing of time can make a cron entry tick, with commands that
are late or lost and stewards that die in any place.

The stewards decide with the product's own `cron.due`. Ticks are whole seconds that have all come already; what passes is
which of them the stewards take for present. Each moment is visited once, on plain dicts and on a real server at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from jobqueue.cron import Schedule, due
from jobqueue.memory import MemoryQueue
from jobqueue.port import NewJob, Ticked
from jobqueue.redis.connect import Endpoint
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire
from tests.support.servers import Server

NAME, QUEUE, SCHEDULE = "each", "q", Schedule("* * * * * *")
FIRST = 1_577_836_800_000  # 2020-01-01T00:00:00Z
TICKS = 3
TROUBLE = 2  # commands that are late or lost, and deaths, in one schedule


class Steward(NamedTuple):
    """`last`: what it believes to be the last tick; None: it has to ask."""

    last: int | None = None


class State(NamedTuple):
    """`now`: how many seconds have passed. `kept`: last tick, and the ticks whose jobs are in. `flights`: commands of
    connections that are cut."""

    stewards: tuple[Steward, Steward]
    now: int = 0
    kept: tuple[int, tuple[int, ...]] = (FIRST, ())
    flights: tuple[int, ...] = ()
    trouble: int = TROUBLE


class Stores:
    """The same verb on plain dicts and on a server, which must answer and keep the same."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.port, self.commands = wire, RedisQueue(wire, "jq", {}, (7, 0, 0)), 0
        self.careless = False

    def tick(self, s: State, tick: int) -> tuple[Ticked, State]:
        self.commands += 1
        last, pushed = s.kept
        memory = MemoryQueue({}, lambda: FIRST + 10**9)
        memory.state(QUEUE).ticks[NAME] = last, str(SCHEDULE)
        if self.careless:
            memory.state(QUEUE).ticks[NAME] = 0, str(SCHEDULE)
        answer = memory.tick(NAME, str(SCHEDULE), tick, _job(tick))
        keys = self.port.keys(QUEUE)
        self.wire.pipe([["FLUSHDB"], ["SET", keys.cron(NAME), f"{last} {SCHEDULE}"]])
        real = self.port.tick(NAME, str(SCHEDULE), tick, _job(tick))
        in_ = [int(element) for element in self.wire.call("LRANGE", keys.pending, 0, -1)]
        if not self.careless:
            assert real._replace(now_ms=0) == answer._replace(now_ms=0)
            assert in_ == [int(element) for element in memory.state(QUEUE).pending]
            assert self.port.last_tick(QUEUE, NAME, str(SCHEDULE))[0] == memory.state(QUEUE).ticks[NAME][0]
        kept = memory.state(QUEUE).ticks[NAME][0], (*pushed, *(int(e) for e in memory.state(QUEUE).pending))
        return answer, s._replace(kept=kept)


def moves(stores: Stores, s: State) -> Iterator[tuple[str, State]]:
    """Each possible next step, by a name, with the moment after it."""
    if s.now < TICKS:
        yield "a second passes", s._replace(now=s.now + 1)
    for i, flight in enumerate(s.flights):
        _, then = stores.tick(s, flight)
        yield f"late tick {flight - FIRST}", then._replace(flights=s.flights[:i] + s.flights[i + 1 :])
    for i, steward in enumerate(s.stewards):
        if steward.last is None:
            yield f"s{i} asks", _with(s, i, s.kept[0])
            continue
        if s.trouble:
            yield f"s{i} dies", _with(s, i, None)._replace(trouble=s.trouble - 1)
        found = due(SCHEDULE, steward.last, FIRST + 1000 * s.now, "last")
        if found.tick is None:
            continue
        answer, then = stores.tick(s, found.tick)
        yield f"s{i} ticks {found.tick - FIRST}", _with(then, i, answer.last)
        if s.trouble:
            cut = _with(s, i, None)._replace(trouble=s.trouble - 1)
            yield f"s{i} ticks, cut", cut._replace(flights=(*s.flights, found.tick))
            yield f"s{i} ticks, its reply is lost", _with(then, i, None)._replace(trouble=s.trouble - 1)


def visit(stores: Stores) -> tuple[int, int]:
    """(moments, ends). Raises AssertionError with the first thing that is wrong."""
    start, ends = State((Steward(), Steward())), 0
    seen, left = {start}, list[tuple[State, tuple[str, ...]]]([(start, ())])
    while left:
        s, path = left.pop()
        last, pushed = s.kept
        assert list(pushed) == sorted(set(pushed)), f"{pushed}: a tick twice, or an old one after a later one\n{path}"
        assert not pushed or pushed[-1] == last, f"the last tick is not in\n{path}"
        assert all(FIRST < tick <= FIRST + 1000 * s.now for tick in pushed)
        idle = True
        for name, then in moves(stores, s):
            idle = idle and (name.startswith("late") or name.endswith("dies"))
            if then not in seen:
                seen.add(then)
                left.append((then, (*path, name)))
        if idle:
            ends += 1
            assert last == FIRST + 1000 * TICKS, f"the last tick was never pushed\n{path}"
    return len(seen), ends


def _with(s: State, i: int, last: int | None) -> State:
    stewards = [*s.stewards]
    stewards[i] = Steward(last)
    one, other = sorted(stewards, key=lambda steward: steward.last or 0)  # they are alike
    return s._replace(stewards=(one, other))


def _job(tick: int) -> NewJob:
    return NewJob(QUEUE, str(tick), str(tick).encode())


@pytest.fixture
def stores(embedded_server: Server) -> Iterator[Stores]:
    wire = Wire(Endpoint(path=embedded_server.socket_path), "explorer", 10.0)
    yield Stores(wire)
    wire.close()


def test_in_every_schedule_each_tick_is_pushed_once_and_the_last_one_always(stores: Stores) -> None:
    moments, ends = visit(stores)
    assert moments > 300
    assert ends > 0
    assert stores.commands > 300


def test_it_finds_a_tick_that_does_not_look_at_the_last_one(stores: Stores) -> None:
    """A search that cannot fail would show nothing."""
    stores.careless = True
    with pytest.raises(AssertionError, match="a tick twice"):
        visit(stores)
