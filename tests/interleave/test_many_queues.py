"""A worker of two queues: every order in which its trips, their late arrivals, a reconcile that comes to one queue after the other, and a
steward that gives it up in one queue after the other can reach them.

Small, over the plain dicts (the conformance suite holds the scripts to them), and beside `tests.interleave.world`, which has one queue but all
kinds of jobs and ends.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from jobqueue.account import Account
from jobqueue.errors import Fenced, Stale
from jobqueue.memory import MemoryQueue
from jobqueue.memorystate import QueueState
from jobqueue.outcome import Requeue
from jobqueue.port import PLAIN, Claim, Reconciled, Settlement
from tests.interleave.world import Broken

QUEUES = ("a", "b")
Kept = tuple[Any, ...]


class Worker(NamedTuple):
    """An Account's fields as values. `asked`: queues a reconcile has come to so far, and what they said; None: none is under way."""

    name: str
    alive: bool = True
    suspected: bool = False
    home: str = "a"
    number: int = 0
    applied: int = 0
    done: tuple[bytes, ...] = ()
    held: tuple[bytes, ...] = ()
    running: bytes | None = None
    started: int = 0
    unanswered: int = 0
    fresh: bool = True
    asked: tuple[tuple[str, int, tuple[bytes, ...]], ...] | None = None
    bar: int = 0

    def account(self) -> Account:
        return Account(
            self.home, self.number, self.applied, [PLAIN] * len(self.done), deque(self.held), self.started, self.unanswered
        )  # fmt: skip

    def after(self, account: Account, **changes: Any) -> Worker:
        return self._replace(
            home=account.home, number=account.number, applied=account.applied, done=self.done[: len(account.done)],
            held=tuple(account.held), started=account.started, unanswered=account.unanswered, **changes,
        )  # fmt: skip


class State(NamedTuple):
    """`flights`: trips whose connection was cut, which run later or never. `given_up`: (worker, queue) a steward has fenced and not yet recovered."""

    kept: Kept
    workers: tuple[Worker, ...]
    flights: tuple[tuple[Any, ...], ...] = ()
    given_up: tuple[tuple[str, str], ...] = ()
    cuts: int = 0
    lies: int = 0
    kills: int = 0
    ran: tuple[tuple[bytes, int], ...] = ()
    troubled: bool = False


class World:
    """The rules, on a kind of MemoryQueue: `first` jobs in queue a, one in b."""

    def __init__(self, kind: type[MemoryQueue] = MemoryQueue, first: int = 2) -> None:
        self.kind, self.jobs = kind, {"a": [b"a%d" % n for n in range(first)], "b": [b"b0"]}
        self.states, self.ends = 0, 0
        self._seen: set[State] = set()
        self._path: list[str] = []

    # ------------------------------------------------------------------ the store as a value

    def thawed(self, kept: Kept) -> MemoryQueue:
        store = self.kind({}, lambda: 1)
        for queue, (pending, processing, workers, bars, was, leases, processed) in zip(QUEUES, kept, strict=True):
            store.queues[queue] = QueueState(
                pending=deque(pending), processing={w: deque(held) for w, held in processing}, workers=dict(workers),
                bars=dict(bars), was=dict(was), leases=dict.fromkeys(leases, 9), stats=Counter(processed=processed),
            )  # fmt: skip
        return store

    @staticmethod
    def frozen(store: MemoryQueue) -> Kept:
        return tuple(
            (
                tuple(q.pending), tuple(sorted((w, tuple(held)) for w, held in q.processing.items())), tuple(sorted(q.workers.items())),
                tuple(sorted(q.bars.items())), tuple(sorted(q.was.items())), tuple(sorted(q.leases)), q.stats["processed"],
            )
            for q in map(store.state, QUEUES)
        )  # fmt: skip

    def start(self, cuts: int, lies: int, kills: int) -> State:
        store = self.kind({}, lambda: 1)
        store.join("w0", QUEUES, 1)
        for queue, jobs in self.jobs.items():
            store.state(queue).pending.extendleft(jobs)
        return State(self.frozen(store), (Worker("w0"),), cuts=cuts, lies=lies, kills=kills)

    # ------------------------------------------------------------------ what may happen

    def moves(self, s: State) -> Iterator[tuple[str, State]]:
        for i, flight in enumerate(s.flights):
            store = self.thawed(s.kept)
            sent(store, flight)
            yield f"late {flight[:2]}", s._replace(kept=self.frozen(store), flights=s.flights[:i] + s.flights[i + 1 :])
        for i, w in enumerate(s.workers):
            if w.alive:
                yield from self.of_worker(s, i, w)
        yield from self.of_steward(s)
        if not any(w.alive for w in s.workers):
            store, name = self.thawed(s.kept), f"w{len(s.workers)}"
            store.join(name, QUEUES, 1)
            yield "respawn", s._replace(kept=self.frozen(store), workers=(*s.workers, Worker(name)))

    def of_worker(self, s: State, i: int, w: Worker) -> Iterator[tuple[str, State]]:
        if s.kills:
            yield (
                f"kill {w.name}",
                put(s, i, w._replace(alive=False))._replace(kills=s.kills - 1, troubled=True),
            )
        if w.asked is not None:
            for queue in QUEUES:
                if queue not in {asked[0] for asked in w.asked}:
                    yield f"{w.name} reconciles {queue}", self.reconciles(s, i, w, queue)
                    if s.cuts:
                        yield f"{w.name} reconciles {queue}, cut", self.cut_off(s, i, barring(w), queue)
            return
        if w.running is not None:
            ran = Counter(dict(s.ran)) + Counter([w.running])
            then = put(s, i, w._replace(running=None, done=(*w.done, w.running)))
            yield f"{w.name} ends", then._replace(ran=tuple(sorted(ran.items())))
            return
        if w.held and not w.fresh:
            account = w.account()
            yield f"{w.name} begins", put(s, i, w.after(account)._replace(**begun(account)))
        if w.held and not w.done and not w.fresh:
            return
        waiting = {queue for queue, kept in zip(QUEUES, s.kept, strict=True) if kept[0]}
        for order in (QUEUES, ("b",), ("a",)):
            if w.done or w.held or w.unanswered or waiting & set(order):
                yield from self.trip(s, i, w, order)

    def trip(self, s: State, i: int, w: Worker, order: Sequence[str]) -> Iterator[tuple[str, State]]:
        account = w.account()
        flight = (w.name, account.depart(), w.applied, w.home, (PLAIN,) * len(w.done), 0, tuple(order), 2, False)
        named = f"{w.name} trip {flight[1]} of {w.home} to {''.join(order)}"
        away = w.after(account)
        if s.cuts:
            lost = put(s, i, away._replace(asked=(), bar=0))
            yield f"{named}, cut", lost._replace(flights=(*s.flights, flight), cuts=s.cuts - 1)
        store = self.thawed(s.kept)
        answer = sent(store, flight)
        then = s._replace(kept=self.frozen(store))
        if answer is Fenced or (isinstance(answer, Claim) and answer.refused):
            must(w.suspected, f"{named}: turned away though nobody took it for dead")
            yield f"{named}, turned away", put(then, i, w._replace(alive=False))
            return
        must(isinstance(answer, Claim), f"{named}: {answer}")
        must(not answer.lost, f"{named}: {answer.lost} finished jobs were gone")
        account.arrive(answer)
        yield named, put(then, i, away.after(account, fresh=False))

    @staticmethod
    def cut_off(s: State, i: int, w: Worker, queue: str) -> State:
        """It reaches this queue later or never, and the worker begins anew."""
        begun_anew = put(s, i, w._replace(asked=(), bar=0))
        return begun_anew._replace(flights=(*s.flights, (w.name, w.bar, queue)), cuts=s.cuts - 1)

    def reconciles(self, s: State, i: int, w: Worker, queue: str) -> State:
        w = barring(w)
        store = self.thawed(s.kept)
        try:
            found = store.reconcile(w.name, w.bar, [queue])
        except Fenced:
            must(w.suspected, f"{w.name} reconciles: fenced though nobody took it for dead")
            return put(s, i, w._replace(alive=False))
        asked = (*(w.asked or ()), (queue, found.trips[queue], tuple(found.lists[queue])))
        s = s._replace(kept=self.frozen(store))
        if len(asked) < len(QUEUES):
            return put(s, i, w._replace(asked=asked))
        account = w.account()
        lost = account.reconcile(Reconciled({q: trip for q, trip, _ in asked}, {q: held for q, _, held in asked}))
        must(not lost, f"{w.name} is told that the server lost writes")
        return put(s, i, w.after(account, asked=None, bar=0, fresh=True))

    def of_steward(self, s: State) -> Iterator[tuple[str, State]]:
        for i, w in enumerate(s.workers):
            for at, queue in enumerate(QUEUES):
                if (w.name, queue) in s.given_up or w.name not in s.kept[at][5]:
                    continue
                lie = w.alive and not w.suspected
                if lie and not s.lies:
                    continue
                store = self.thawed(s.kept)
                store.fence(w.name, queue)
                then = s._replace(kept=self.frozen(store), given_up=(*s.given_up, (w.name, queue)))
                if lie:
                    then = put(then, i, w._replace(suspected=True))._replace(lies=s.lies - 1, troubled=True)
                yield f"{w.name} is fenced in {queue}", then
        for name, queue in s.given_up:
            store = self.thawed(s.kept)
            _, held = store.fence(name, queue)
            store.recover(name, queue, [Settlement(Requeue(), element) for element in held], "recovered")
            left = tuple(pair for pair in s.given_up if pair != (name, queue))
            yield f"{name} is recovered in {queue}", s._replace(kept=self.frozen(store), given_up=left)

    # ------------------------------------------------------------------ the search

    def explore(self, s: State) -> None:
        """Every state once. Raises Broken with the steps that lead to it."""
        try:
            self.visit(s)
        except AssertionError as broken:
            raise Broken(f"{broken}\nafter: {' · '.join(self._path)}") from None

    def visit(self, s: State) -> None:
        if s in self._seen:
            return
        self._seen.add(s)
        self.states += 1
        check(s, {job for jobs in self.jobs.values() for job in jobs})
        must(len(self._path) < 150, "it does not come to an end")
        quiet = True
        for name, then in self.moves(s):
            self._path.append(name)
            quiet = quiet and name.startswith(("late", "kill"))
            self.visit(then)
            self._path.pop()
        if quiet:
            self.ends += 1
            lists = [held for _, processing, *_ in s.kept for held in processing]
            must(not lists, f"lists are left: {lists}")
            must(sum(kept[6] for kept in s.kept) == sum(map(len, self.jobs.values())), "not all jobs have ended")


def sent(store: MemoryQueue, flight: tuple[Any, ...]) -> Any:
    try:
        if len(flight) == 3:
            return store.reconcile(flight[0], flight[1], [flight[2]])
        return store.settle(*flight)
    except (Fenced, Stale) as refused:
        return type(refused)


def barring(w: Worker) -> Worker:
    """With a number for the reconcile that is under way, or begins."""
    if w.bar:
        return w
    account = w.account()
    bar = account.bar()
    return w._replace(number=account.number, bar=bar)


def begun(account: Account) -> dict[str, Any]:
    running = account.begin()
    return {"running": running, "held": tuple(account.held), "started": account.started}


def put(s: State, i: int, worker: Worker) -> State:
    return s._replace(workers=(*s.workers[:i], worker, *s.workers[i + 1 :]))


def must(true: object, otherwise: str) -> None:
    if not true:
        raise Broken(otherwise)


def check(s: State, jobs: set[bytes]) -> None:
    """No job is in two places or nowhere; a list is what its living owner believes it to be, and somebody watches it."""
    places: Counter[bytes] = Counter()
    for pending, processing, *_ in s.kept:
        places.update(pending)
        for _, held in processing:
            places.update(held)
    must(not places or max(places.values()) == 1, f"{places}: in two places")
    gone = jobs - set(places)
    must(len(gone) == sum(kept[6] for kept in s.kept), f"{gone} are gone, which is not what was settled")
    must(all(dict(s.ran).get(job) for job in gone), f"{gone} are gone, not all of them have run")
    must(s.troubled or all(n == 1 for _, n in s.ran), f"{s.ran}: run twice though nothing died")
    for queue, (_, processing, _, _, _, leases, _) in zip(QUEUES, s.kept, strict=True):
        for name, held in processing:
            must(name in leases, f"nobody will ever empty the list of {name} in {queue}")
            w = next(w for w in s.workers if w.name == name)
            if w.alive and not w.suspected and w.asked is None and not w.unanswered:
                mine = [*w.done, *([w.running] if w.running else []), *w.held]
                must(
                    w.home == queue and list(held)[::-1] == mine, f"{name} believes to hold {mine}, {queue} says {held}"
                )


QUICK = [(3, 0, 0, 1), (1, 1, 0, 1), (1, 0, 1, 1)]
LONG = [(0, 1, 1, 1), (2, 0, 0, 2), (1, 1, 0, 2), (1, 0, 1, 2), (0, 1, 1, 2)]


@pytest.mark.parametrize(
    ("cuts", "lies", "kills", "first"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)],
)
def test_every_order_with_two_queues(
    cuts: int, lies: int, kills: int, first: int, record_property: Callable[[str, object], None]
) -> None:
    world = World(first=first)
    world.explore(world.start(cuts, lies, kills))
    record_property("visited", f"{world.states} states")
    assert world.states > 500
    assert world.ends > 0


class Unasked(MemoryQueue):
    """Claims from other queues than home without their word."""

    @staticmethod
    def _check_trip(q: QueueState, worker: str, trip: int, applied: int | None) -> None:
        if applied is not None:
            MemoryQueue._check_trip(q, worker, trip, applied)


class Unbarred(MemoryQueue):
    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        return super().reconcile(worker, 0, queues)


class Lowered(MemoryQueue):
    """A late reconcile takes the bar back to where it was."""

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        for queue in queues:
            self.state(queue).bars.pop(worker, None)
        return super().reconcile(worker, bar, queues)


class Unrecorded(MemoryQueue):
    """A trip is recorded at home alone."""

    def _claim(
        self, worker: str, trip: int, home: str, order: Sequence[str], want: int
    ) -> tuple[str, list[bytes], str]:
        before = {queue: self.state(queue).workers.get(worker) for queue in order if queue != home}
        found = super()._claim(worker, trip, home, order, want)
        for queue, known in before.items():
            if known is not None:
                self.state(queue).workers[worker] = known
        return found


@pytest.mark.parametrize(
    ("mistake", "cuts", "lies"), [(Unasked, 0, 1), (Unbarred, 1, 0), (Lowered, 3, 0), (Unrecorded, 0, 0)], ids=lambda x: getattr(x, "__name__", "")
)  # fmt: skip
def test_it_finds_a_mistake(mistake: type[MemoryQueue], cuts: int, lies: int) -> None:
    """A search that cannot fail would show nothing."""
    world = World(mistake)
    with pytest.raises(Broken, match="after: "):
        world.explore(world.start(cuts, lies, 0))
