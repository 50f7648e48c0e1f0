"""The queue port in plain dicts: for tests, and as the readable statement of what the Lua verbs do.

Not thread-safe, not shared between processes, and nothing survives. `jobqueue.testing` puts a producer's face on it;
the conformance suite in tests/queue holds it to the same promises as Redis. Lists are kept as in Redis: new jobs at the
left, the next to run at the right.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from jobqueue.errors import Fenced, QueueFull, Stale
from jobqueue.memorystate import List, QueueState, by_time
from jobqueue.outcome import Ack, Bury, Requeue, Retry
from jobqueue.port import AHEAD_MS, Claim, Enqueued, NewJob, Reconciled, Settlement, Ticked
from jobqueue.redis.keys import check_name
from jobqueue.settings import QueueSettings, settings_of

CLAIM_BYTES = 256 * 1024
ID_REMEMBERED_MS = 3_600_000


class MemoryQueue:
    """Producer, worker and steward port in one. `clock`: the server's time in ms."""

    def __init__(
        self,
        settings: Mapping[str, QueueSettings] | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings, self.clock = dict(settings or {}), clock
        self.queues: dict[str, QueueState] = {}
        self.registered: set[str] = set()

    def state(self, queue: str) -> QueueState:
        """All there is of a queue. Raises InvalidQueueName."""
        if queue not in self.queues:
            self.queues[check_name(queue)] = QueueState()
        return self.queues[queue]

    # ------------------------------------------------------------------ producers

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued | Exception]:
        """See ProducerPort."""
        for job in jobs:
            check_name(job.queue)
        return [self._enqueue(self.state(job.queue), job) for job in jobs]

    def _enqueue(self, q: QueueState, job: NewJob) -> Enqueued | Exception:
        now = self.clock()
        if job.deduplicate and q.ids.get(job.id, 0) > now:
            return Enqueued(job.id, True)
        if job.unique and job.unique in q.unique:
            return Enqueued(q.unique[job.unique], True)
        if job.max_length is not None and len(q.pending) >= job.max_length:
            return QueueFull(job.queue, len(q.pending), job.max_length)
        if job.deduplicate:
            q.ids[job.id] = now + ID_REMEMBERED_MS
        if job.unique:
            q.unique[job.unique] = job.id
        due = job.due_ms or (now + job.delay_ms if job.delay_ms > 0 else 0)
        if due > now:
            q.schedule(job.element, due)
        else:
            q.pending.appendleft(job.element)
        q.stats["enqueued"] += 1
        return Enqueued(job.id, False)

    def register(self, queues: Sequence[str]) -> None:
        """See ProducerPort."""
        self.registered.update(map(check_name, queues))

    def now_ms(self) -> int:
        """See ProducerPort."""
        return self.clock()

    # ------------------------------------------------------------------ workers

    def join(self, worker: str, queues: Sequence[str], lease_ms: int) -> None:
        """See WorkerPort."""
        for queue in queues:
            q = self.state(queue)
            q.workers.setdefault(worker, 0)
            q.leases[worker] = self.clock() + lease_ms

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
        order = order if home in order else (*order, home)
        q = self.state(home)
        self._check_trip(q, worker, trip, applied)
        held = deque(q.held(worker))
        mine = [held.pop() for _ in range(min(len(done), len(held)))]
        front = self._dispose(q, list(zip(done, mine, strict=False)), settling=True)
        q.trim(settings_of(self.settings, home).dead_max)
        while len(held) > keep:
            q.pending.append(held.popleft())
        q.pending.extend(reversed(front))
        q.keep(worker, held)
        q.workers[worker] = trip
        source, jobs, refused = self._claim(worker, trip, home, order, 0 if held else want)
        if return_next:
            for queue in order:
                self.state(queue).return_next()
        return Claim(
            length=len(held),
            queue=source or home,
            jobs=jobs,
            lost=len(done) - len(mine),
            paused=frozenset(queue for queue in order if self.state(queue).paused is not None),
            cancelled=bool(source and self.state(source).cancelled),
            now_ms=self.clock(),
            refused=refused,
        )

    @staticmethod
    def _check_trip(q: QueueState, worker: str, trip: int, applied: int | None) -> None:
        if worker not in q.workers:
            raise Fenced(worker)
        known = q.workers[worker]
        if applied not in (None, known) or trip <= known or trip <= q.bars.get(worker, 0):
            raise Stale(worker, trip)

    def _dispose(self, q: QueueState, pairs: list[tuple[Settlement, bytes]], *, settling: bool) -> List:
        """Carry out each settlement for the element beside it; returns what has to go to the front, oldest first."""
        now, front = self.clock(), List()
        for s, element in pairs:
            match s.disposition:
                case Ack(counter):
                    q.stats[counter] += 1
                    q.free(s.unique, s.job_id)
                case Retry(delay_ms, rewritten):
                    q.schedule(rewritten, now + delay_ms)
                    q.stats["retried"] += 1
                case Bury(rewritten):
                    q.bury(rewritten, now)
                    q.free(s.unique, s.job_id)
                case Requeue(changed):
                    front.append(element if changed is None else changed)
                    q.stats["requeued"] += settling
                case _:
                    assert_never(s.disposition)
        return front

    def _claim(
        self, worker: str, trip: int, home: str, order: Sequence[str], want: int
    ) -> tuple[str, list[bytes], str]:
        for queue in order if want else ():
            q = self.state(queue)
            if q.paused is not None or not (q.next or q.pending):
                continue
            if queue != home:
                try:
                    self._check_trip(q, worker, trip, None)
                except (Fenced, Stale):
                    return "", [], queue
                q.workers[worker] = trip
            jobs: list[bytes] = []
            size = 0
            while len(jobs) < want and size < CLAIM_BYTES and (source := q.next or q.pending):
                jobs.append(source.pop())
                size += len(jobs[-1])
            if jobs:
                q.keep(worker, deque(reversed(jobs)))
                return queue, jobs, ""
        return "", [], ""

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        """See WorkerPort."""
        states = {queue: self.state(queue) for queue in queues}
        if any(worker not in q.workers for q in states.values()):
            raise Fenced(worker)
        for q in states.values():
            q.bars[worker] = max(bar, q.bars.get(worker, 0))
        trips = {queue: q.workers[worker] for queue, q in states.items()}
        return Reconciled(trips, {queue: list(reversed(q.held(worker))) for queue, q in states.items()})

    def retire(self, worker: str, queues: Sequence[str]) -> bool:
        """See WorkerPort."""
        retired = True
        for queue in queues:
            q = self.state(queue)
            if q.held(worker):
                retired = False
            else:
                for table in (q.workers, q.bars, q.was, q.leases):
                    table.pop(worker, None)
        return retired

    def cancelled(self, queue: str, job_ids: Sequence[str]) -> frozenset[str]:
        """See WorkerPort."""
        marks = self.state(queue).cancelled
        found = frozenset(marks.intersection(job_ids))
        marks -= found
        return found

    # ------------------------------------------------------------------ stewards

    def leases(self, queue: str) -> tuple[dict[str, int], int]:
        """See StewardPort."""
        return dict(self.state(queue).leases), self.clock()

    def fence(self, worker: str, queue: str) -> tuple[int, list[bytes]]:
        """See StewardPort."""
        q = self.state(queue)
        if worker in q.workers:
            q.was[worker] = q.workers.pop(worker)
            q.bars.pop(worker, None)
        return q.was.get(worker, -1), list(reversed(q.held(worker)))

    def recover(self, worker: str, queue: str, done: Sequence[Settlement], counter: str) -> int:
        """See StewardPort."""
        q = self.state(queue)
        q.workers.pop(worker, None)
        q.bars.pop(worker, None)
        q.return_next()
        held, pairs = deque(reversed(q.held(worker))), []
        for s in done:
            if s.element in held:
                held.remove(s.element)
                pairs.append((s, s.element))
        q.pending.extend(reversed(self._dispose(q, pairs, settling=False)))
        q.keep(worker, deque(reversed(held)))
        if pairs:
            q.stats[counter] += len(pairs)
            q.trim(settings_of(self.settings, queue).dead_max)
        if not held:
            q.leases.pop(worker, None)
            q.was.pop(worker, None)
        return len(held)

    def hand_back(self, worker: str, queue: str, trip: int, keep: int) -> int:
        """See StewardPort."""
        q = self.state(queue)
        if worker not in q.workers or max(q.workers[worker], q.bars.get(worker, 0)) != trip:
            return -1
        held, moved = deque(q.held(worker)), 0
        while len(held) > keep:
            q.pending.append(held.popleft())
            moved += 1
        q.keep(worker, held)
        return moved

    def promote(self, queue: str, limit: int = 1000) -> tuple[int, int, int]:
        """See StewardPort."""
        q, now = self.state(queue), self.clock()
        due = sorted((item for item in q.scheduled.items() if item[1] <= now), key=by_time)[:limit]
        for element, _ in due:
            del q.scheduled[element]
            q.pending.appendleft(element)
        return len(due), min(q.scheduled.values(), default=0), now

    def beat(self, queue: str, workers: Sequence[str], lease_ms: int) -> int:
        """See StewardPort."""
        q = self.state(queue)
        known = [worker for worker in workers if worker in q.workers]
        q.leases.update(dict.fromkeys(known, self.clock() + lease_ms))
        return len(known)

    def expire_dead(self, queue: str, ttl_ms: int, limit: int = 1000) -> int:
        """See StewardPort."""
        q, before = self.state(queue), self.clock() - ttl_ms
        old = sorted((item for item in q.dead.items() if item[1] <= before), key=by_time)[:limit]
        for element, _ in old:
            del q.dead[element]
        if old:
            q.stats["dead_expired"] += len(old)
        return len(old)

    def return_next(self, queue: str) -> int:
        """See StewardPort."""
        return self.state(queue).return_next()

    # ------------------------------------------------------------------ cron

    def last_tick(self, queue: str, name: str, schedule: str) -> tuple[int, int]:
        """See CronPort."""
        q, now = self.state(queue), self.clock()
        last, known = q.ticks.get(name, (0, ""))
        if known != schedule or last > now + AHEAD_MS:
            last = now
        q.ticks[name] = last, schedule
        return last, now

    def tick(self, name: str, schedule: str, tick_ms: int, job: NewJob) -> Ticked:
        """See CronPort."""
        q, now = self.state(job.queue), self.clock()
        last, _ = q.ticks.get(name, (0, ""))
        if last >= tick_ms:
            return Ticked("held", last, now)
        if tick_ms > now:
            return Ticked("early", last, now)
        taken = bool(job.unique) and job.unique in q.unique
        if not taken:
            if job.max_length is not None and len(q.pending) >= job.max_length:
                return Ticked("full", last, now, len(q.pending))
            q.pending.appendleft(job.element)
            q.stats["enqueued"] += 1
            if job.unique:
                q.unique[job.unique] = job.id
        q.ticks[name] = tick_ms, schedule
        return Ticked("taken" if taken else "pushed", tick_ms, now)

    # ------------------------------------------------------------------ operators

    def pause(self, queue: str, reason: str = "") -> None:
        """Nothing is claimed from the queue until `resume`."""
        self.state(queue).paused = reason

    def resume(self, queue: str) -> None:
        """Undo `pause`."""
        self.state(queue).paused = None

    def cancel(self, queue: str, job_id: str) -> None:
        """Have the job dropped when it is claimed."""
        self.state(queue).cancelled.add(job_id)
