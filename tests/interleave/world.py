"""All who touch a queue, as a value: a producer, workers, stewards, and commands under way. `moves` says what may happen next.

The actors decide with the product's own code (`jobqueue.account`, `retry`, `settlement`, `supervisor.recovery`); a command is one step.
A fault may take the place of any step, as far as the bounds allow: a connection is cut (what was sent may still run, at any later moment,
or never), a process is killed, a living worker is taken for dead. Not a test. Used by `tests.interleave.explore`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from jobqueue import codec
from jobqueue.account import Account
from jobqueue.errors import Fenced, Stale
from jobqueue.job import Envelope
from jobqueue.outcome import Failed, Fault, Outcome, Succeeded
from jobqueue.port import Claim, NewJob, Reconciled, Settlement
from jobqueue.retry import decide, policy_for
from jobqueue.settings import Backoff, QueueSettings
from jobqueue.settlement import dispose
from supervisor.recovery import Told, settlements
from tests.interleave.stores import QUEUE, Command, Kept, Store

SETTINGS = QueueSettings(max_attempts=2, max_crashes=2, backoff=Backoff(base=1.0, jitter="none"))


class Bounds(NamedTuple):
    """How often each kind of trouble may happen in one schedule. `lies`: living workers taken for dead. `hands`: held jobs handed back.
    `wakes`: parked calls that fire."""

    cuts: int = 0
    kills: int = 0
    lies: int = 0
    hands: int = 0
    wakes: int = 0
    lost_stewards: int = 0


class Worker(NamedTuple):
    """What a worker knows; the fields of its Account, and what runs. `fresh`: a trip must come before anything runs."""

    name: str
    state: str = "up"  # up, dead (killed), gone (left after it was fenced)
    number: int = 0
    applied: int = 0
    done: tuple[Settlement, ...] = ()
    held: tuple[bytes, ...] = ()
    started: int = 0
    unanswered: int = 0
    running: bytes | None = None
    broken: bool = False
    fresh: bool = True
    suspected: bool = False  # somebody took it for dead

    def account(self) -> Account:
        return Account(
            QUEUE, self.number, self.applied, list(self.done), deque(self.held), self.started, self.unanswered
        )

    def with_account(self, account: Account, **changes: Any) -> Worker:
        return self._replace(
            number=account.number, applied=account.applied, done=tuple(account.done), held=tuple(account.held),
            started=account.started, unanswered=account.unanswered, **changes,
        )  # fmt: skip


class Steward(NamedTuple):
    """What a steward is about: whom it recovers, and what it saw when it fenced it (None: not yet)."""

    worker: str = ""
    seen: tuple[int, tuple[bytes, ...]] | None = None


class State(NamedTuple):
    """One moment. `flights`: commands sent over connections that are cut. `ran`: how often each job was run to an end.
    `ended`: jobs that are gone for good. `troubled`: a process died or was taken for dead, so jobs may run twice."""

    kept: Kept
    workers: tuple[Worker, ...]
    stewards: tuple[Steward, ...]
    bounds: Bounds
    flights: tuple[Command, ...] = ()
    produced: int = 0
    accepted: frozenset[str] = frozenset()
    ran: tuple[tuple[str, int], ...] = ()
    ended: frozenset[str] = frozenset()
    troubled: bool = False


class Broken(AssertionError):
    """A promise does not hold."""


def plan(*jobs: str) -> tuple[NewJob, ...]:
    """`ack`, `fail` (at first), `bury` (always fails), each perhaps with `:KEY` (a unique key)."""
    made = []
    for n, job in enumerate(jobs):
        kind, _, unique = job.partition(":")
        made.append(NewJob(QUEUE, f"j{n}", codec.encode(Envelope(type=kind, id=f"j{n}", unique=unique)), unique=unique))
    return tuple(made)


@dataclass(slots=True)
class World:
    """The rules. `jobs`: what the producer enqueues, in order."""

    store: Store
    jobs: tuple[NewJob, ...]
    answers: dict[tuple[Kept, Command], tuple[Any, Kept]] = field(default_factory=dict)

    def start(self, workers: int, stewards: int, bounds: Bounds) -> State:
        kept, names = Kept(), [f"w{n}" for n in range(workers)]
        for name in names:
            _, kept = self.store.run(kept, Command("join", (name, (QUEUE,), 1000)))
        return State(kept, tuple(map(Worker, names)), (Steward(),) * stewards, bounds)

    # ------------------------------------------------------------------ what may happen

    def moves(self, s: State) -> Iterator[tuple[str, State]]:
        """Each possible next step, by a name, with the moment after it."""
        if s.produced < len(self.jobs):
            yield "enqueue", self._enqueue(s)
        for i, flight in enumerate(s.flights):
            yield f"late {flight.verb}", self._late(s, i)
        for i, worker in enumerate(s.workers):
            if worker.state == "up":
                yield from self._worker_moves(s, i, worker)
        for i, steward in enumerate(s.stewards):
            yield from self._steward_moves(s, i, steward)
        if s.kept.scheduled:
            yield "promote", self._just(s, Command("come"))
        if s.kept.next and not any(w.state == "up" and not w.broken for w in s.workers):
            yield "return next", self._just(s, Command("return_next", (QUEUE,)))
        if s.bounds.wakes and s.kept.pending:
            yield "wake", self._just(s._replace(bounds=s.bounds._replace(wakes=s.bounds.wakes - 1)), Command("wake"))
        if all(w.state != "up" for w in s.workers) and not s.flights:
            yield "respawn", self._respawn(s)

    def _worker_moves(self, s: State, i: int, w: Worker) -> Iterator[tuple[str, State]]:
        if s.bounds.kills:
            yield f"kill {w.name}", self._killed(s, i)
        if w.running is not None:
            yield f"{w.name} ends", self._end(s, i, w)
            if s.bounds.hands and w.held:
                yield f"hand back {w.name}", self._hand_back(s, w)
            return
        if w.held and not w.fresh and not w.broken:
            account = w.account()
            yield (
                f"{w.name} begins",
                _with(
                    s,
                    i,
                    w.with_account(account, running=account.begin())._replace(
                        held=tuple(account.held), started=account.started
                    ),
                ),
            )
        for name, command, changed in self._trips(s, w):
            yield f"{w.name} {name}", self._answered(s, i, changed, command)
            if s.bounds.cuts:
                yield f"{w.name} {name}, cut", self._cut(s, i, changed, command)
                if s.bounds.kills:
                    yield f"{w.name} {name}, killed", self._killed(self._cut(s, i, changed, command), i)

    def _trips(self, s: State, w: Worker) -> Iterator[tuple[str, Command, Worker]]:
        account = w.account()
        if w.broken:
            bar = account.bar()
            yield "reconciles", Command("reconcile", (w.name, bar, (QUEUE,))), w.with_account(account)
            return
        waiting = bool(s.kept.pending or s.kept.next)
        if not (w.done or w.held or waiting or w.unanswered):
            return
        trip = account.depart()
        keeps = [(0, 2)]
        if w.done and w.held and not w.fresh:
            keeps.append((1, 0))
        if w.held and not w.done and not w.fresh:
            return  # runs what it holds first
        for keep, want in keeps:
            args = (w.name, trip, w.applied, QUEUE, w.done, keep, (QUEUE,), want, bool(s.kept.next) and not keep)
            yield f"settles, keeps {keep}", Command("settle", args), w.with_account(account)

    def _steward_moves(self, s: State, i: int, steward: Steward) -> Iterator[tuple[str, State]]:
        if not steward.worker:
            for w in s.workers:
                lie = w.state == "up" and not w.suspected and s.bounds.lies > 0
                if w.name in s.kept.leases and (w.state != "up" or lie):
                    yield f"s{i} fences {w.name}", self._fence(s, i, w, lie=lie)
            return
        if s.bounds.lost_stewards:
            forgotten = _with_steward(s, i, Steward())
            yield (
                f"s{i} is lost",
                forgotten._replace(bounds=s.bounds._replace(lost_stewards=s.bounds.lost_stewards - 1)),
            )
        command = self._recovery(s, steward)
        yield f"s{i} recovers {steward.worker}", self._recovered(s, i, steward, command)
        if s.bounds.cuts:
            late = _with_steward(s, i, Steward())
            yield (
                f"s{i} recovers {steward.worker}, cut",
                late._replace(flights=(*s.flights, command), bounds=s.bounds._replace(cuts=s.bounds.cuts - 1)),
            )

    # ------------------------------------------------------------------ what happens then

    def _run(self, s: State, command: Command) -> tuple[Any, State]:
        """The one way to the store: the answer, and the moment after with the jobs that are gone now."""
        asked = (s.kept, command)
        if asked not in self.answers:  # the same question has the same answer
            self.answers[asked] = self.store.run(s.kept, command)
        answer, kept = self.answers[asked]
        left = {job_id for job_id in s.accepted if job_id not in _ids(kept)}
        return answer, s._replace(kept=kept, ended=frozenset(left))

    def _just(self, s: State, command: Command) -> State:
        return self._run(s, command)[1]

    def _enqueue(self, s: State) -> State:
        job = self.jobs[s.produced]
        (answer,), then = self._run(s, Command("enqueue", ((job,),)))
        live = _ids(s.kept)
        if job.unique and answer.duplicate != any(holder in live for key, holder in s.kept.unique if key == job.unique):
            raise Broken(f"enqueue of {job.id} says {answer}")
        accepted = s.accepted if answer.duplicate else s.accepted | {job.id}
        return then._replace(produced=s.produced + 1, accepted=accepted)

    def _late(self, s: State, i: int) -> State:
        _, then = self._run(s, s.flights[i])
        return then._replace(flights=s.flights[:i] + s.flights[i + 1 :])

    def _answered(self, s: State, i: int, w: Worker, command: Command) -> State:
        answer, then = self._run(s, command)
        account = w.account()
        if answer is Fenced:
            if not w.suspected:
                raise Broken(f"{w.name} is fenced, but nobody took it for dead")
            return _with(then, i, w._replace(state="gone", running=None))
        if answer is Stale:
            raise Broken(f"a trip of {w.name} is refused, though it lives")
        if isinstance(answer, Claim):
            if answer.lost:
                raise Broken(f"{answer.lost} finished jobs of {w.name} were gone")
            account.arrive(answer)
            return _with(then, i, w.with_account(account, fresh=False))
        assert isinstance(answer, Reconciled)
        if account.reconcile(answer):
            raise Broken(f"{w.name} is told that the server lost writes")
        return _with(then, i, w.with_account(account, broken=False, fresh=True))

    def _cut(self, s: State, i: int, w: Worker, command: Command) -> State:
        s = s._replace(flights=(*s.flights, command), bounds=s.bounds._replace(cuts=s.bounds.cuts - 1))
        return _with(s, i, w._replace(broken=True))

    def _killed(self, s: State, i: int) -> State:
        s = s._replace(troubled=True, bounds=s.bounds._replace(kills=s.bounds.kills - 1))
        return _with(s, i, s.workers[i]._replace(state="dead"))

    def _end(self, s: State, i: int, w: Worker) -> State:
        assert w.running is not None
        envelope = decoded(w.running)
        outcome: Outcome = Succeeded()
        if envelope.type == "bury" or (envelope.type == "fail" and envelope.attempt == 0):
            outcome = Failed(Fault("ValueError", "no"))
        policy = policy_for(None, None, SETTINGS)
        decision = decide(outcome, attempt=envelope.attempt, crashes=envelope.crashes, policy=policy, rnd=0.5)
        settlement = dispose(decision, w.running, envelope, raw_type=None, now_ms=1, new_id=envelope.id)
        ran = dict(s.ran)
        if isinstance(outcome, Succeeded):
            ran[envelope.id] = ran.get(envelope.id, 0) + 1
        return _with(s, i, w._replace(running=None, done=(*w.done, settlement)))._replace(
            ran=tuple(sorted(ran.items()))
        )

    def _hand_back(self, s: State, w: Worker) -> State:
        """What the scoreboard said a moment ago; it is sent now and runs whenever it does."""
        flight = Command("hand_back", (w.name, QUEUE, w.applied, w.started))
        s = s._replace(flights=(*s.flights, flight), bounds=s.bounds._replace(hands=s.bounds.hands - 1))
        # Only behind a job that outlasts every claim budget: a trip follows such a job, before anything else is begun.
        return _with(s, s.workers.index(w), w._replace(fresh=True))

    def _fence(self, s: State, i: int, w: Worker, *, lie: bool) -> State:
        (applied, elements), then = self._run(s, Command("fence", (w.name, QUEUE)))
        if lie:
            then = then._replace(troubled=True, bounds=s.bounds._replace(lies=s.bounds.lies - 1))
            then = _with(then, s.workers.index(w), w._replace(suspected=True))
        return _with_steward(then, i, Steward(w.name, (applied, tuple(elements))))

    def _recovery(self, s: State, steward: Steward) -> Command:
        assert steward.seen is not None
        w = next(w for w in s.workers if w.name == steward.worker)
        row = {"start_ns": int(w.running is not None), "queue": QUEUE, "trip": w.applied, "started": w.started}
        told = Told(0, w.name, "crashed", "", row, 0.0) if w.state == "dead" else Told(0, w.name, "lost", "", None, 0.0)
        done = settlements(told, QUEUE, *steward.seen, settings=SETTINGS, policies={}, now_ms=1, random=lambda: 0.5)
        return Command("recover", (w.name, QUEUE, tuple(done), "recovered"))

    def _recovered(self, s: State, i: int, steward: Steward, command: Command) -> State:
        left, then = self._run(s, command)
        return _with_steward(then, i, Steward() if left == 0 else Steward(""))

    def _respawn(self, s: State) -> State:
        name = f"w{len(s.workers)}"
        _, then = self._run(s, Command("join", (name, (QUEUE,), 1000)))
        return then._replace(workers=(*s.workers, Worker(name)))


def _with(s: State, i: int, worker: Worker) -> State:
    return s._replace(workers=(*s.workers[:i], worker, *s.workers[i + 1 :]))


def _with_steward(s: State, i: int, steward: Steward) -> State:
    # Stewards are alike: sorted, so that who is called first makes no difference.
    return s._replace(
        stewards=tuple(
            sorted((*s.stewards[:i], steward, *s.stewards[i + 1 :]), key=lambda one: (one.worker, one.seen or ()))
        )
    )


@cache
def _ids(kept: Kept) -> frozenset[str]:
    """Jobs that are still somewhere, dead letters too."""
    return frozenset(decoded(element).id for element in (*places(kept), *kept.dead))


@cache
def decoded(element: bytes) -> Envelope:
    return codec.decode(element)


@cache
def places(kept: Kept) -> list[bytes]:
    """All elements of jobs that live."""
    held = [element for _, elements in kept.processing for element in elements]
    return [*kept.pending, *kept.next, *held, *kept.scheduled]
