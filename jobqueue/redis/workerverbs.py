"""The worker's port on Redis: see `jobqueue.port.WorkerPort`. The hot path: most trips go out packed (`jobqueue.redis.trip`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from jobqueue.errors import Fenced, ServerRefused, Stale
from jobqueue.outcome import Bury
from jobqueue.port import PLAIN, Claim, Reconciled, Settlement
from jobqueue.redis import scripts
from jobqueue.redis.trip import Names, TripCommand
from jobqueue.redis.verbs import Verbs, operation, raise_first
from jobqueue.settings import settings_of

MOST_ORDERS = 1000  # weighted queues come in many orders
LONG = 16  # queues: a command for more of them is some tens of kilobytes, and made anew each time
NONE: frozenset[str] = frozenset()


class WorkerVerbs(Verbs):
    """Over a Wire, which takes packed commands, or anything else that carries commands."""

    @cached_property
    def _exchange(self) -> Callable[[bytes], Any] | None:
        return getattr(self.transport, "exchange", None)

    @cached_property
    def _trips(self) -> dict[tuple[str, str, tuple[str, ...]], TripCommand]:
        return {}

    @cached_property
    def _names(self) -> dict[tuple[str, str], Names]:
        return {}

    def join(self, worker: str, queues: Sequence[str], lease_ms: int) -> None:
        """See WorkerPort."""
        calls = [([self.keys(q).workers, self.keys(q).leases], [worker, lease_ms]) for q in queues]
        raise_first(self._run_all("join", calls))

    def settle(
        self,
        worker: str,
        trip: int,
        applied: int,
        home: str,
        done: Sequence[Settlement],
        keep: int,
        order: Sequence[str],
        want: int,
        return_next: bool,
    ) -> Claim:
        """See WorkerPort."""
        order = tuple(order)
        command = self._trips.get((worker, home, order)) or self._trip_command(worker, home, order)
        if self._exchange is not None and done.count(PLAIN) == len(done):
            reply = self._exchange(command.packed(len(done), trip, applied, keep, want, return_next))
            if isinstance(reply, ServerRefused) and reply.code != "NOSCRIPT":
                raise reply
        else:
            reply = None
        if reply is None or isinstance(reply, ServerRefused):  # to be told at length
            args: list[Any] = [*command.constants, trip, applied, keep, want, int(return_next)]
            names = self._operations(home, done, command.keys, args)
            reply = self._run("settle", names, args)
        if isinstance(reply, bytes):
            raise Fenced(worker) if reply == b"FENCED" else Stale(worker, trip)
        length, source, lost, cancelled, now, paused, broken, refused, *jobs = reply
        queues = command.queues
        queue = queues[source - 1] if source else home
        if not (paused or broken or refused):
            return Claim(length, queue, jobs, lost, NONE, cancelled == 1, now)
        deaf, odd = (frozenset(queues[i - 1] for i in some or ()) for some in (paused, broken))
        return Claim(length, queue, jobs, lost, deaf, cancelled == 1, now, odd, queues[refused - 1] if refused else "")

    def _trip_command(self, worker: str, home: str, order: tuple[str, ...]) -> TripCommand:
        queues = order if home in order else (*order, home)
        names = [self._names.get((worker, queue)) or self._named(worker, queue) for queue in queues]
        sha = scripts.load("settle", self.version).sha
        constants = (worker, len(queues), queues.index(home) + 1)
        made = TripCommand(sha, [*names, Names.of(self.keys(home).stats)], queues, constants)
        if len(queues) <= LONG:
            if len(self._trips) > MOST_ORDERS:
                self._trips.clear()
            self._trips[worker, home, order] = made
        return made

    def _named(self, worker: str, queue: str) -> Names:
        q = self.keys(queue)
        names = Names.of(q.processing(worker), q.workers, q.next, q.pending, q.paused, q.cancelled)
        self._names[worker, queue] = names
        return names

    def _operations(self, home: str, done: Sequence[Settlement], names: list[str], args: list[Any]) -> list[str]:
        """Append the operations to `args` (runs of plain acks as one); returns `names` with the keys they need besides."""
        k, more, plain = self.keys(home), names, 0
        for s in done:
            if s is PLAIN or (s.disposition == PLAIN.disposition and not s.unique):
                plain += 1
                continue
            if plain:
                args += ["A", plain]
                plain = 0
            if more is names:
                more = [*names, k.scheduled, k.dead, k.alarm]
            args += operation(k, s, more, old=False)
            if isinstance(s.disposition, Bury):
                args.append(settings_of(self.settings, home).dead_max)
        if plain:
            args += ["A", plain]
        return more

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        """See WorkerPort."""
        calls = [([self.keys(q).processing(worker), self.keys(q).workers], [worker, bar]) for q in queues]
        replies = self._run_all("reconcile", calls)
        raise_first(replies)
        if any(isinstance(reply, bytes) for reply in replies):
            raise Fenced(worker)
        answers = dict(zip(queues, replies, strict=True))
        return Reconciled(
            {q: reply[0] for q, reply in answers.items()}, {q: reply[1][::-1] for q, reply in answers.items()}
        )

    def retire(self, worker: str, queues: Sequence[str]) -> bool:
        """See WorkerPort (stewards use it too)."""
        calls = []
        for q in queues:
            k = self.keys(q)
            calls.append(([k.processing(worker), k.workers, k.leases], [worker]))
        replies = self._run_all("retire", calls)
        raise_first(replies)
        return all(replies)

    def cancelled(self, queue: str, job_ids: Sequence[str]) -> frozenset[str]:
        """See WorkerPort."""
        if not job_ids:
            return frozenset()
        marks = self._run("cancelled", [self.keys(queue).cancelled], job_ids)
        return frozenset(job_id for job_id, mark in zip(job_ids, marks, strict=True) if mark)
