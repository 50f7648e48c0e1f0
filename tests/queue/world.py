"""A world for random histories: workers and stewards on one store, whose commands run late, get lost or lose their
replies, while processes die, connections break and the living are taken for dead.

After `run` everything is healed and drained, and `World` tells what the promise is about: what was accepted, what
ended, what is left.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobqueue.errors import Fenced, JobQueueError
from jobqueue.outcome import Ack, Bury, Disposition, Requeue, Retry
from jobqueue.port import Claim, NewJob, Settlement
from tests.queue.backends import Backend

QUEUES = ("a", "b")


class Connection:
    """Commands run in order, later. After a cut those already sent may still run; their replies are gone."""

    def __init__(self) -> None:
        self.sent: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.cut = False


@dataclass(eq=False)
class Worker:
    """What a worker knows. `done`: finished, not settled. `slow`: the running job used up the budget, a trip must
    follow it.
    """

    name: str
    conn: Connection = field(default_factory=Connection)
    trip: int = 0
    applied: int = 0
    home: str = QUEUES[0]
    held: list[bytes] = field(default_factory=list)
    done: list[Settlement] = field(default_factory=list)
    running: bytes | None = None
    unanswered: int = 0
    waiting: bool = False
    must_reconcile: bool = False
    slow: bool = False
    started: int = 0


class World:
    """`distinct`: how many different payloads there are. `calm`: nobody dies, only connections and hand-backs make
    trouble.
    """

    def __init__(self, backend: Backend, seed: int, *, jobs: int, distinct: int, calm: bool) -> None:
        self.backend, self.port, self.rng = backend, backend.port, random.Random(seed)
        self.jobs, self.distinct, self.calm = jobs, distinct, calm
        self.connections: list[Connection] = []
        self.workers: list[Worker] = []
        self.dead: list[str] = []
        self.births = self.accepted = self.rewrites = 0
        self.pushed: Counter[bytes] = Counter()
        self.ended: Counter[bytes] = Counter()
        self.seen: Counter[str] = Counter()

    # ---------------------------------------------------------------- what the promise is about

    def final(self) -> int:
        """Final states reached, by the queues' own totals."""
        return sum(self.backend.stats(q).get(name, 0) for q in QUEUES for name in ("processed", "dead", "discarded"))

    def never_ended(self) -> int:
        """Accepted jobs for which no worker ever came to an end."""
        return sum(max(0, n - self.ended[payload]) for payload, n in self.pushed.items())

    def left(self) -> list[object]:
        """What should not be there at the end."""
        found: list[object] = []
        for q in QUEUES:
            found += [*self.backend.pending(q), *self.backend.next(q), *self.backend.scheduled(q)]
            found += ["processing list"] * self.backend.processing_lists(q)
            found += [f"unique {n}" for n in range(self.accepted) if self.backend.unique(q, f"u{n}") is not None]
        return found

    # ---------------------------------------------------------------- transport

    def send(self, conn: Connection, command: Callable[[], Any], reply: Callable[[Any], None] = lambda _: None) -> None:
        conn.sent.append((command, reply))
        if conn not in self.connections:
            self.connections.append(conn)

    def server_step(self) -> bool:
        self.connections = [conn for conn in self.connections if conn.sent]
        if not self.connections:
            return False
        conn = self.rng.choice(self.connections)
        command, reply = conn.sent.pop(0)
        try:
            answer = command()
        except JobQueueError as error:
            answer = error
        if not conn.cut:
            reply(answer)
        return True

    # ---------------------------------------------------------------- producers and workers

    def push(self) -> None:
        payload, n = b"j%d" % (self.accepted % self.distinct), self.accepted
        unique = f"u{n}" if self.distinct >= self.jobs and n % 3 == 0 else ""
        self.port.enqueue([NewJob(self.rng.choice(QUEUES), f"j{n}", payload, unique=unique)])
        self.accepted += 1
        self.pushed[payload] += 1

    def spawn(self) -> None:
        worker = Worker(f"w{self.births}")
        self.births += 1
        self.port.join(worker.name, QUEUES, 10**9)
        self.workers.append(worker)

    def work(self, w: Worker) -> None:
        """The next thing this worker does by itself."""
        if w.waiting:
            return
        if w.running is not None:
            if w.slow and self.rng.random() < 0.7:
                return  # long enough for a steward to notice
            w.done.append(self.end(w.running))
            w.running = None
            if w.must_reconcile:
                self.reconcile(w)
            elif w.slow:
                self.settle(w)
        elif w.held and self.rng.random() < 0.8:
            w.running = w.held.pop(0)
            w.started += 1
            w.slow = self.rng.random() < 0.4
        elif not w.held or w.done:
            self.settle(w)

    def end(self, element: bytes) -> Settlement:
        """A handler's end, and what follows from it."""
        payload = element.split(b"#")[0]
        x = self.rng.random()
        disposition: Disposition = Requeue()
        if x < 0.8:
            disposition = self.rng.choice((Ack(), Ack(), Ack("discarded"), Bury(self.rewritten(payload))))
            self.ended[payload] += 1
        elif x < 0.9:
            disposition = Retry(1, self.rewritten(payload))
        elif x < 0.95:
            disposition = Requeue(self.rewritten(payload))
        return self.settlement(element, disposition)

    def rewritten(self, payload: bytes) -> bytes:
        self.rewrites += 1
        return payload + b"#%d" % self.rewrites

    def settlement(self, element: bytes, disposition: Disposition) -> Settlement:
        name = element.split(b"#")[0].decode()
        return Settlement(disposition, element, name, f"u{name[1:]}")

    def settle(self, w: Worker) -> None:
        w.trip += 1
        kept = w.held if self.rng.random() < 0.7 else []
        trip, applied, home, done = w.trip, w.applied, w.home, list(w.done)
        want, order, back = self.rng.choice((0, 1, 4, 8)), self.rng.sample(QUEUES, 2), self.rng.random() < 0.5

        def command() -> Claim:
            return self.port.settle(w.name, trip, applied, home, done, len(kept), order, want, back)

        def reply(answer: Claim | JobQueueError) -> None:
            w.waiting, w.unanswered = False, 0
            if isinstance(answer, Fenced):
                self.leave(w)
                return
            assert isinstance(answer, Claim), f"a living worker's trip was refused: {answer!r}"
            assert answer.lost == 0, "a living worker's finished job was gone"
            assert answer.length <= len(kept)
            self.seen["handed back"] += answer.length < len(kept)
            w.applied, w.done, w.started, w.held = trip, [], 0, kept[: answer.length]
            if answer.jobs:
                assert not w.held
                w.home, w.held = answer.queue, list(answer.jobs)

        w.waiting, w.unanswered = True, trip
        self.send(w.conn, command, reply)

    def reconcile(self, w: Worker) -> None:
        """After any broken connection: bar older trips in every queue, then compare by count."""
        w.must_reconcile, w.waiting = False, True
        w.trip += 1
        trip, answers = w.trip, {}

        def got(queue: str, answer: Any) -> None:
            answers[queue] = answer
            if len(answers) < len(QUEUES):
                return
            w.waiting = False
            if any(isinstance(a, Fenced) for a in answers.values()):
                self.leave(w)
                return
            w.applied = max(a.applied for a in answers.values())
            if w.unanswered and w.applied >= w.unanswered:
                self.seen["lost reply of an applied trip"] += 1
                w.done = []
            w.unanswered = 0
            lists = {q: list(a.lists[q]) for q, a in answers.items() if a.lists[q]}
            assert len(lists) <= 1, f"one worker holds jobs of two queues: {lists}"
            w.home = next(iter(lists), w.home)
            w.held = lists.get(w.home, [])[len(w.done) :]
            w.started = len(w.done)

        for queue in QUEUES:  # one by one: a late trip may run between them
            self.send(
                w.conn,
                lambda queue=queue: self.port.reconcile(w.name, trip, [queue]),  # type: ignore[misc]
                lambda answer, queue=queue: got(queue, answer),  # type: ignore[misc]
            )

    # ---------------------------------------------------------------- trouble

    def cut(self, w: Worker) -> None:
        w.conn.cut = True
        w.conn, w.waiting = Connection(), False
        self.seen["cut"] += 1
        if w.running is None:
            self.reconcile(w)
        else:
            w.must_reconcile = True

    def leave(self, w: Worker) -> None:
        """Fenced: what it held is not its own any more."""
        self.seen["fenced"] += 1
        if w in self.workers:
            self.kill(w)
            self.spawn()

    def kill(self, w: Worker) -> None:
        w.conn.cut = True
        self.workers.remove(w)
        self.dead.append(w.name)
        self.seen["kill"] += 1

    def recover(self, name: str) -> None:
        """A steward: fence, look, decide, dispose; each command may be late, and the steward may die between them."""
        for queue in QUEUES:
            conn = Connection()

            def looked(answer: Any, queue: str = queue, conn: Connection = conn) -> None:
                settlements = [self.verdict(n, element) for n, element in enumerate(answer[1])]
                self.send(conn, lambda: self.port.recover(name, queue, settlements, "recovered"))

            self.send(conn, lambda queue=queue: self.port.fence(name, queue), looked)  # type: ignore[misc]
            conn.cut = self.rng.random() < 0.2

    def verdict(self, n: int, element: bytes) -> Settlement:
        """The first may have crashed its process, the others are not to blame."""
        payload = element.split(b"#")[0]
        if n == 0 and self.rng.random() < 0.3:
            rewritten = self.rewritten(payload)
            return self.settlement(element, self.rng.choice((Requeue(rewritten), Retry(1, rewritten))))
        return self.settlement(element, Requeue())

    def hand_back(self, w: Worker) -> None:
        if w.running is not None and w.slow and w.held:
            name, home, trip, keep = w.name, w.home, w.applied, w.started
            self.send(Connection(), lambda: self.port.hand_back(name, home, trip, keep))

    def promote(self) -> None:
        for queue in QUEUES:
            self.backend.pass_time(queue, 2)
            self.port.promote(queue)

    def trouble(self) -> None:
        x, anyone = self.rng.random(), self.rng.choice(self.workers)
        if self.calm and (x < 0.2 or 0.4 <= x < 0.72):
            x = 0.3
        if x < 0.2:
            self.kill(anyone)
            self.spawn()
        elif x < 0.4:
            self.cut(anyone)
        elif x < 0.7:
            if self.dead:
                self.recover(self.rng.choice(self.dead))
        elif x < 0.72:
            self.recover(anyone.name)  # a false death
        elif x < 0.84:
            for w in self.workers:
                self.hand_back(w)
        elif x < 0.94:
            queue = self.rng.choice(QUEUES)
            self.send(
                Connection(), lambda: self.backend.wake(queue)
            )  # a parked call fires; anybody's, even a dead process's
        else:
            self.promote()

    # ---------------------------------------------------------------- history

    def run(self, steps: int) -> None:
        """`steps` random events, then heal everything and let one last worker finish what there is."""
        for _ in range(3):
            self.spawn()
        for _ in range(steps):
            x = self.rng.random()
            if self.accepted < self.jobs and x < 0.15:
                self.push()
            elif x < 0.5:
                self.server_step()
            elif x < 0.9:
                self.work(self.rng.choice(self.workers))
            else:
                self.trouble()
        while self.accepted < self.jobs:
            self.push()
        self.heal()
        self.spawn()
        self.finish(self.workers[0])

    def heal(self) -> None:
        while self.server_step():
            pass
        for w in list(self.workers):
            if self.calm:
                self.until_idle(w)
            self.kill(w)
        for name in {name for q in QUEUES for name in self.port.leases(q)[0]}:
            while any(name in self.port.leases(q)[0] for q in QUEUES):
                self.recover(name)
                while self.server_step():
                    pass

    def until_idle(self, w: Worker) -> None:
        while w.waiting or w.held or w.done or w.running is not None:
            self.work(w)
            self.server_step()

    def finish(self, w: Worker) -> None:
        idle = 0
        while idle < 40:
            self.promote()
            self.work(w)
            self.server_step()
            waiting = any([*self.backend.pending(q), *self.backend.next(q), *self.backend.scheduled(q)] for q in QUEUES)
            busy = waiting or w.waiting or w.held or w.done or w.running is not None
            idle = 0 if busy else idle + 1
        for q in QUEUES:
            self.port.retire(w.name, [q])
