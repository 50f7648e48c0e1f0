"""The names of all keys in Redis: the only place that spells them. Table with types and meanings: docs/protocol.md.

A queue's keys share one hash tag. A foreign queue (`key: jobs` in its settings) uses that key itself as its ready list and as tag.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobqueue.errors import InvalidQueueName

QUEUES = "queues"


def check_name(name: str) -> str:
    """Return `name`, or raise InvalidQueueName: it becomes part of a key with a hash tag."""
    if not name or "{" in name or "}" in name:
        raise InvalidQueueName(name)
    return name


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue. `prefix` as in `redis.key_prefix`; `tag` is the queue's name, or a foreign queue's own key."""

    prefix: str
    tag: str
    foreign: bool = False

    @classmethod
    def of(cls, prefix: str, name: str, key: str | None = None) -> QueueKeys:
        """Keys of the queue `name`; `key` is its foreign ready list, if it has one."""
        return cls(prefix, check_name(key if key is not None else name), key is not None)

    def _key(self, what: str) -> str:
        return f"{self.prefix}:{{{self.tag}}}:{what}"

    @property
    def pending(self) -> str:
        return self.tag if self.foreign else self._key("pending")

    @property
    def next(self) -> str:
        return self._key("next")

    def processing(self, worker: str) -> str:
        return self._key(f"processing:{worker}")

    @property
    def scheduled(self) -> str:
        return self._key("scheduled")

    @property
    def dead(self) -> str:
        return self._key("dead")

    @property
    def workers(self) -> str:
        return self._key("workers")

    @property
    def leases(self) -> str:
        return self._key("leases")

    @property
    def alarm(self) -> str:
        return self._key("alarm")

    def unique(self, key: str) -> str:
        return self._key(f"unique:{key}")

    def id(self, job_id: str) -> str:
        return self._key(f"id:{job_id}")

    @property
    def paused(self) -> str:
        return self._key("paused")

    @property
    def cancelled(self) -> str:
        return self._key("cancelled")

    @property
    def purging(self) -> str:
        return self._key("purging")

    def cron(self, name: str) -> str:
        return self._key(f"cron:{name}")

    @property
    def stats(self) -> str:
        return self._key("stats")


def queues_key(prefix: str) -> str:
    """SET of `name` or `name=ready-list key` (foreign queues): which queues exist."""
    return f"{prefix}:{QUEUES}"


def host_key(prefix: str, host: str) -> str:
    """STRING with expiry: what one host's jqd reports of itself (JSON)."""
    return f"{prefix}:host:{host}"
