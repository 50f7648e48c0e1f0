"""The queue port on Redis: packs keys and arguments for the Lua verbs and turns their replies into the port's data.

Every change of state is one script in lua/ (its header says what it does and why it is safe); nothing here decides. The same class serves
workers and stewards (over a Wire) and producers (over a redis-py client, `jobqueue.redis.server.Server`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jobqueue.errors import Fenced, JobQueueError, QueueFull, ServerRefused, Stale
from jobqueue.outcome import Ack, Bury, Requeue, Retry
from jobqueue.port import AHEAD_MS, PLAIN, Claim, Enqueued, NewJob, Reconciled, Settlement, Ticked
from jobqueue.redis import scripts
from jobqueue.redis.keys import QueueKeys, queues_key
from jobqueue.redis.trip import TripCommand
from jobqueue.settings import QueueSettings, settings_of

MOST_ORDERS = 1000  # weighted queues come in many orders
NONE: frozenset[str] = frozenset()
ID_REMEMBERED_MS = 3_600_000
TICK_REMEMBERED = 90 * 86_400  # seconds since a steward last knew the entry; so one that was removed leaves nothing
PUSH_MOST = 2_000  # elements of one push script: bounded by Lua's stack and by how long the server may be busy
PUSH_BYTES = 4 * 1024 * 1024


class Transport(Protocol):
    """A connection, or something like one: `wire.Wire`, `server.Server`."""

    def call(self, *args: Any) -> Any:
        """One command. Raises ServerRefused, Unavailable."""

    def pipe(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Several at once; error replies come back as ServerRefused in their places. Raises Unavailable."""


class RedisQueue:
    """All three ports (producer, worker, steward) over one transport. `version`: the server's, e.g. (7, 0, 15)."""

    def __init__(
        self,
        transport: Transport,
        prefix: str = "jq",
        settings: Mapping[str, QueueSettings] | None = None,
        version: tuple[int, ...] = scripts.FLAGS_SINCE,
    ) -> None:
        self.transport, self.prefix, self.settings, self.version = transport, prefix, dict(settings or {}), version
        self._keys: dict[str, QueueKeys] = {}
        self._trips: dict[tuple[str, str, tuple[str, ...]], TripCommand] = {}
        self._exchange: Callable[[bytes], Any] | None = getattr(transport, "exchange", None)

    # ------------------------------------------------------------------ plumbing

    def keys(self, queue: str) -> QueueKeys:
        """The keys of a queue; raises InvalidQueueName."""
        keys = self._keys.get(queue)
        if keys is None:
            keys = self._keys[queue] = QueueKeys.of(self.prefix, queue, settings_of(self.settings, queue).key)
        return keys

    def _command(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        return ["EVALSHA", scripts.load(name, self.version).sha, len(keys), *keys, *args]

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run a verb; a server that does not know it yet is taught it (NOSCRIPT means: nothing was done)."""
        command = self._command(name, keys, args)
        try:
            return self.transport.call(*command)
        except ServerRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        return self.transport.call("EVAL", scripts.load(name, self.version).source, *command[2:])

    def _run_all(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run one verb several times in one round trip; error replies stand in their places."""
        commands = [self._command(name, keys, args) for keys, args in calls]
        replies = self.transport.pipe(commands)
        source = scripts.load(name, self.version).source
        for i, reply in enumerate(replies):
            if isinstance(reply, ServerRefused) and reply.code == "NOSCRIPT":
                replies[i] = self.transport.pipe([["EVAL", source, *commands[i][2:]]])[0]
        return replies

    def teach(self, names: Sequence[str]) -> None:
        """Load scripts ahead of use, so that the first trip needs no second one."""
        self.transport.pipe([["SCRIPT", "LOAD", scripts.load(name, self.version).source] for name in names])

    # ------------------------------------------------------------------ producers

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Exception]:
        """See ProducerPort. Runs of plain jobs for one queue travel as one script call."""
        calls: list[tuple[str, list[str], list[Any], list[NewJob]]] = []
        for job in jobs:
            keys = self.keys(job.queue)
            if job.unique or job.deduplicate or job.delay_ms or job.due_ms:
                calls.append(("enqueue", *self._one(keys, job), [job]))
                continue
            limit = "" if job.max_length is None else job.max_length
            if calls and self._joins(calls[-1], keys, limit, job):
                calls[-1][2].append(job.element)
                calls[-1][3].append(job)
            else:
                calls.append(("push", [keys.pending, keys.stats], [limit, job.element], [job]))
        answers: list[Enqueued | Exception] = []
        replies = self.transport.pipe([self._command(name, keys, args) for name, keys, args, _ in calls])
        for (name, keys_, args, batch), reply in zip(calls, replies, strict=True):
            untaught = isinstance(reply, ServerRefused) and reply.code == "NOSCRIPT"
            answers += self._answers(batch, self._again(name, keys_, args) if untaught else reply)
        return answers

    def _again(self, name: str, keys: list[str], args: list[Any]) -> Any:
        try:
            return self._run(name, keys, args)
        except ServerRefused as refused:
            return refused

    @staticmethod
    def _joins(
        call: tuple[str, list[str], list[Any], list[NewJob]], keys: QueueKeys, limit: object, job: NewJob
    ) -> bool:
        name, call_keys, args, batch = call
        same = name == "push" and call_keys[0] == keys.pending and args[0] == limit and len(batch) < PUSH_MOST
        return same and len(batch) * len(job.element) < PUSH_BYTES

    def _one(self, keys: QueueKeys, job: NewJob) -> tuple[list[str], list[Any]]:
        names = [keys.pending, keys.scheduled, keys.stats, keys.alarm, keys.unique(job.unique), keys.id(job.id)]
        limit = "" if job.max_length is None else job.max_length
        flags = [int(bool(job.unique)), int(job.deduplicate)]
        return names, [job.element, job.id, job.delay_ms, job.due_ms, limit, ID_REMEMBERED_MS, *flags]

    @staticmethod
    def _answers(batch: list[NewJob], reply: Any) -> list[Enqueued | Exception]:
        if isinstance(reply, ServerRefused):
            return [reply] * len(batch)
        if isinstance(reply[0], int):
            taken, length = reply
            full = [QueueFull(job.queue, length + taken, job.max_length or 0) for job in batch[taken:]]
            return [*(Enqueued(job.id, False) for job in batch[:taken]), *full]
        job = batch[0]
        match bytes(reply[0]):
            case b"OK":
                return [Enqueued(job.id, False)]
            case b"TAKEN":
                return [Enqueued(reply[1].decode("utf-8", "replace"), True)]
            case _:
                return [QueueFull(job.queue, int(reply[1]), job.max_length or 0)]

    def register(self, queues: Sequence[str]) -> None:
        """See ProducerPort."""
        members = []
        for queue in queues:
            keys = self.keys(queue)
            members.append(f"{queue}={keys.pending}" if keys.foreign else queue)
        self.transport.call("SADD", queues_key(self.prefix), *members)

    def now_ms(self) -> int:
        """See ProducerPort."""
        seconds, micros = self.transport.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    # ------------------------------------------------------------------ workers

    def join(self, worker: str, queues: Sequence[str], lease_ms: int) -> None:
        """See WorkerPort."""
        calls = [([self.keys(q).workers, self.keys(q).leases], [worker, lease_ms]) for q in queues]
        _raise_first(self._run_all("join", calls))

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
        length, source, lost, cancelled, now, paused, broken, jobs = reply
        queues = command.queues
        return Claim(
            length,
            queues[source - 1] if source else home,
            jobs,
            lost,
            frozenset(queues[i - 1] for i in paused) if paused else NONE,
            bool(cancelled),
            now,
            frozenset(queues[i - 1] for i in broken) if broken else NONE,
        )

    def _trip_command(self, worker: str, home: str, order: tuple[str, ...]) -> TripCommand:
        queues = order if home in order else (*order, home)
        names = []
        for queue in queues:
            q = self.keys(queue)
            names += [q.processing(worker), q.workers, q.next, q.pending, q.paused, q.cancelled]
        names.append(self.keys(home).stats)
        if len(self._trips) > MOST_ORDERS:
            self._trips.clear()
        sha = scripts.load("settle", self.version).sha
        made = TripCommand(sha, names, queues, (worker, len(queues), queues.index(home) + 1))
        self._trips[worker, home, order] = made
        return made

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
            args += _operation(k, s, more, old=False)
            if isinstance(s.disposition, Bury):
                args.append(settings_of(self.settings, home).dead_max)
        if plain:
            args += ["A", plain]
        return more

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        """See WorkerPort."""
        calls = [([self.keys(q).processing(worker), self.keys(q).workers], [worker, bar]) for q in queues]
        replies = self._run_all("reconcile", calls)
        _raise_first(replies)
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
        _raise_first(replies)
        return all(replies)

    def cancelled(self, queue: str, job_ids: Sequence[str]) -> frozenset[str]:
        """See WorkerPort."""
        if not job_ids:
            return frozenset()
        marks = self._run("cancelled", [self.keys(queue).cancelled], job_ids)
        return frozenset(job_id for job_id, mark in zip(job_ids, marks, strict=True) if mark)

    # ------------------------------------------------------------------ stewards

    def leases(self, queue: str) -> tuple[dict[str, int], int]:
        """See StewardPort."""
        now, flat = self._run("leases", [self.keys(queue).leases])
        ends = {flat[i].decode("utf-8", "replace"): int(float(flat[i + 1])) for i in range(0, len(flat), 2)}
        return ends, now

    def fence(self, worker: str, queue: str) -> tuple[int, list[bytes]]:
        """See StewardPort."""
        k = self.keys(queue)
        applied, newest_first = self._run("fence", [k.processing(worker), k.workers], [worker])
        return applied, newest_first[::-1]

    def recover(self, worker: str, queue: str, done: Sequence[Settlement], counter: str) -> int:
        """See StewardPort."""
        k = self.keys(queue)
        names = [k.processing(worker), k.workers, k.leases, k.pending, k.next, k.scheduled, k.dead, k.stats, k.alarm]
        args: list[Any] = [worker, counter, settings_of(self.settings, queue).dead_max]
        for s in done:
            args += _operation(k, s, names, old=True)
        left, _ = self._run("recover", names, args)
        return int(left)

    def hand_back(self, worker: str, queue: str, trip: int, keep: int) -> int:
        """See StewardPort."""
        k = self.keys(queue)
        return int(self._run("hand_back", [k.processing(worker), k.workers, k.pending], [worker, trip, keep]))

    def promote(self, queue: str, limit: int = 1000) -> tuple[int, int, int]:
        """See StewardPort."""
        k = self.keys(queue)
        moved, due, now = self._run("promote", [k.pending, k.scheduled], [limit])
        return moved, due, now

    def beat(self, queue: str, workers: Sequence[str], lease_ms: int) -> int:
        """See StewardPort."""
        k = self.keys(queue)
        return int(self._run("beat", [k.workers, k.leases], [lease_ms, *workers]))

    def expire_dead(self, queue: str, ttl_ms: int, limit: int = 1000) -> int:
        """See StewardPort."""
        k = self.keys(queue)
        return int(self._run("expire_dead", [k.dead, k.stats], [ttl_ms, limit]))

    def return_next(self, queue: str) -> int:
        """See StewardPort."""
        k = self.keys(queue)
        return int(self._run("return_next", [k.next, k.pending]))

    # ------------------------------------------------------------------ cron

    def last_tick(self, queue: str, name: str, schedule: str) -> tuple[int, int]:
        """See CronPort."""
        last, now = self._run("last_tick", [self.keys(queue).cron(name)], [schedule, AHEAD_MS, TICK_REMEMBERED])
        return last, now

    def tick(self, name: str, schedule: str, tick_ms: int, job: NewJob) -> Ticked:
        """See CronPort."""
        k = self.keys(job.queue)
        limit = "" if job.max_length is None else job.max_length
        args = [tick_ms, schedule, job.element, job.id, limit, TICK_REMEMBERED, int(bool(job.unique))]
        word, *numbers = self._run("tick", [k.pending, k.cron(name), k.stats, k.unique(job.unique)], args)
        return Ticked(word.decode(), *numbers)


def _operation(k: QueueKeys, s: Settlement, names: list[str], *, old: bool) -> list[Any]:
    """One operation of settle, or of recover (which names the element as it lies in the list)."""

    def unique() -> int:
        if not s.unique:
            return 0
        names.append(k.unique(s.unique))
        return len(names)

    lies: list[Any] = [s.element] if old else []
    match s.disposition:
        case Ack(counter):
            return ["a", *lies, counter, unique(), s.job_id]
        case Retry(delay_ms, element):
            return ["R", *lies, delay_ms, element]
        case Bury(element):
            return ["B", *lies, element, unique(), s.job_id]
        case Requeue(element):
            return ["Q", *lies, element or b""]


def _raise_first(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, JobQueueError):
            raise reply
