"""The steward's port on Redis: see `jobqueue.port.StewardPort` and `CronPort`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobqueue.port import AHEAD_MS, NewJob, Settlement, Ticked
from jobqueue.redis.verbs import Verbs, operation
from jobqueue.settings import settings_of

TICK_REMEMBERED = 90 * 86_400  # seconds since a steward last knew the entry; so one that was removed leaves nothing


class StewardVerbs(Verbs):
    """Each can be repeated after any interruption, by any number of stewards."""

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
            args += operation(k, s, names, old=True)
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
