"""Everything the library raises on purpose: one root, one class a cause, the message built inside.

Not here: what handlers raise to steer their own job (`SkipRetry`, `RetryAfter`, `Discard`, `JobTimeout`, `JobAborted`); those are in
`jobqueue.outcome`, because they are ways a job can end.
"""

from __future__ import annotations

import re
from typing import ClassVar


class JobQueueError(Exception):
    """Root of the library's own errors."""


class QueueFull(JobQueueError):
    """The queue has reached its `max_length`; nothing was enqueued."""

    def __init__(self, queue: str, length: int, max_length: int) -> None:
        self.queue, self.length, self.max_length = queue, length, max_length
        super().__init__(
            f"queue {queue!r} is full: {length} jobs wait, max_length is {max_length}. "
            "Enqueue later (or pass block=SECONDS to wait for room), add workers, or raise max_length."
        )


class InvalidJob(JobQueueError):
    """A job was refused before it reached Redis."""

    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(f"{what}. {cure}")


class InvalidQueueName(JobQueueError):
    """A queue name that cannot be part of a key with a hash tag."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"queue name {name!r} cannot be used: it must not be empty and must not contain '{{' or '}}'")


class DescriptorsUsedUp(JobQueueError):
    """This process may open no further file or connection: its code has left too many open. Only a new process helps."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(
            f"no descriptor is left to connect to Redis at {where}: close what handlers open, or raise LimitNOFILE (ulimit -n)"
        )


class Unavailable(JobQueueError):
    """Redis did not answer; whether the command was carried out is unknown unless `sent` is False."""

    def __init__(self, where: str, cause: object, *, sent: bool = True) -> None:
        self.where, self.cause, self.sent = where, cause, sent
        super().__init__(f"Redis at {where} is not available: {cause}")


class TlsFailed(Unavailable):
    """TLS with Redis cannot be agreed on: a certificate or the port is wrong. Nothing was sent."""

    def __init__(self, where: str, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(where, what, sent=False)
        self.args = (f"TLS with Redis at {where} failed: {what}. {cure}",)


class OutcomeUnknown(Unavailable):
    """The connection broke after jobs may have been sent. `repeatable`: enqueueing them again cannot double them."""

    def __init__(self, lost: Unavailable, job_id: str, *, jobs: int = 1, repeatable: bool = False) -> None:
        self.job_id, self.jobs, self.repeatable = job_id, jobs, repeatable
        super().__init__(lost.where, lost.cause)
        what = f"job {job_id!r} is" if jobs == 1 and job_id else f"{jobs} jobs are" if jobs > 1 else "the job is"
        cure = "Enqueue again" if repeatable else "Enqueue with an id= of your own (or unique=), then repeating it"
        rest = ": the same id within an hour is the same job" if repeatable else " is harmless"
        self.args = (f"{str(lost).rstrip('.')}. Whether {what} in the queue is not known. {cure}{rest}.",)


class ServerRefused(JobQueueError):
    """Redis answered with an error. `code` is the first word of it (OOM, READONLY, LOADING, WRONGPASS, NOPERM, ...)."""

    CURES: ClassVar[dict[str, str]] = {
        "OOM": "Redis is at its maxmemory: let workers drain the queues, raise maxmemory, or bound the queues with max_length.",
        "WRONGPASS": "Check user and password in redis.url.",
        "NOAUTH": "Redis wants a password: put it into redis.url (redis://:PASSWORD@host or redis://USER:PASSWORD@host).",
        "NOPERM": "The Redis user lacks a permission: see the ACL in docs/security.md.",
        "READONLY": "This is a replica: point redis.url to the master, or use redis+sentinel://.",
        "LOADING": "Redis is still loading its data set; it is tried again.",
        "MISCONF": "Redis cannot save to disk: look at its log and its disk.",
        "WRONGTYPE": "A key of this queue holds another type: something else uses the same name or key_prefix.",
    }

    # Before Redis 7 an error inside a script comes wrapped; a right that the user lacks there comes without its code in any version.
    WRAPPED: ClassVar = re.compile(r"ERR Error running script \(call to \S+\): @\w+: ?\d+: (?:@\w+: \d+: )?-?")
    BARRED: ClassVar = re.compile("(?:ERR )?(?=ACL failure in script|The user executing the script can't )")

    def __init__(self, message: str, where: str = "") -> None:
        message = self.BARRED.sub("NOPERM ", self.WRAPPED.sub("", message, count=1), count=1)
        self.code = message.split(" ", 1)[0].strip("-")
        self.message, self.where = message, where
        cure = self.CURES.get(self.code, "")
        at = f" at {where}" if where else ""
        super().__init__(f"Redis{at} answered: {message}" + (f" -- {cure}" if cure else ""))


class Fenced(JobQueueError):
    """This worker is no longer registered: somebody recovered its jobs. It must leave."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"worker {worker} is not registered in Redis any more; its jobs were given to others")


class Stale(JobQueueError):
    """A trip was refused because the server has seen a newer one, or lost an older one: reconcile first."""

    def __init__(self, worker: str, trip: int) -> None:
        self.worker, self.trip = worker, trip
        super().__init__(f"trip {trip} of worker {worker} does not follow the last one the server knows")


class UnsafeServer(JobQueueError):
    """The server's configuration would lose jobs."""

    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(f"{what}. {cure}")
