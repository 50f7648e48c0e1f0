"""The producer's port on Redis: see `jobqueue.port.ProducerPort`. Packs and reads; what is decided, the scripts decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobqueue.errors import QueueFull, ServerRefused
from jobqueue.port import Enqueued, NewJob
from jobqueue.redis.keys import QueueKeys, queues_key
from jobqueue.redis.verbs import Verbs

ID_REMEMBERED_MS = 3_600_000
PUSH_MOST = 2_000  # elements of one push script: bounded by Lua's stack and by how long the server may be busy
PUSH_BYTES = 4 * 1024 * 1024


class ProducerVerbs(Verbs):
    """Over a redis-py client (`jobqueue.redis.server.Server`), or anything else that carries commands."""

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
