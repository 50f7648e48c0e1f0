"""The steward process: puts back what dead workers held, beats for the living, promotes what is due, ticks. One loop,
one wait, no threads.

Not the master, which only tells it who died, and not the duties themselves (`supervisor.stewardship`). After any
error of Redis it opens a new connection and starts over with a sweep; a lost word of the master costs nothing,
because the sweep finds orphans by itself. When the master is gone it stays until the last worker has left: it
enforces hard limits then and ends them after `drain_timeout`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from jobqueue.errors import JobQueueError, ServerRefused, Unavailable, UnsafeServer
from jobqueue.redis.alarms import Alarms
from jobqueue.redis.session import Link
from jobqueue.redis.wire import wait_readable
from supervisor import identity, lastwords, logs, probation, publicity, roles
from supervisor.masterline import MasterLine
from supervisor.metrics import StewardMetrics
from supervisor.outlive import end_overdue
from supervisor.recovery import Told
from supervisor.scoreboard import LayoutMismatch, Row, Scoreboard
from supervisor.settings import Settings, decode, secrets
from supervisor.stewardlink import TIMEOUT, Lines, hopeless
from supervisor.stewardship import Clock, Stewardship

if TYPE_CHECKING:
    from jobqueue.redis.cluster.session import ClusterLink
    from supervisor.crontab import Crontab

BEAT: Final = 3.0
SWEEP: Final = 1.0
DEAD: Final = 60.0  # how often dead letters are looked at for their age
QUEUES: Final = 5.0  # how often the registry of queues is read
LOOK_BUSY, LOOK_IDLE = 0.010, 0.025
PATIENCE: Final = 2.0  # seconds a server that starts beside us may take before it counts as missing
AFTER_A_DEATH: Final = (0.02, 0.2)  # when to look for a job that its woken worker never claimed


class Steward:
    """All of the process's state. `start`: what the master said first."""

    def __init__(self, start: roles.Start) -> None:
        self.start = start
        self.settings: Settings = decode(start.settings)
        self.board = Scoreboard.open(start.board_fd)
        logs.configure("steward", self.settings.log, secrets=secrets(self.settings), generation=start.generation)
        self.log = logs.get_logger("steward")
        self.metrics = StewardMetrics(start.generation)
        self.born = time.monotonic()
        self.clock = Clock(self.born)
        self.master = MasterLine(start.channel, self.log, serving=not start.candidate)
        self.lines = Lines(self.settings, self.log)
        self.duties: Stewardship | None = None
        self.crontab: Crontab | None = None
        self.ready = False
        self.at = dict.fromkeys(("beat", "sweep", "queues", "dead", "look"), 0.0)
        self.follow_ups: list[float] = []
        self.slots: tuple[int, ...] = ()
        self.code = 0
        self.heard: set[int] = {self.master.fileno()}  # descriptors that can be read

    # ------------------------------------------------------------------ the loop

    def run(self) -> int:
        """Until told to stop, or the last worker of a dead master has left."""
        while not self.master.leaving:
            now = time.monotonic()
            self.master.speak(now)
            if self.master.fileno() in self.heard:
                self.master.listen(now)
            if self.duties is None and self.master.serving and now >= self.lines.retry_at:
                self._connect(now)
            if self.duties is not None:
                try:
                    self._work(self.duties, now)
                except (Unavailable, ServerRefused, UnsafeServer) as error:
                    self._lost(error)
            elif self.master.sweep_asked is not None and now - self.master.sweep_asked > TIMEOUT:
                self.master.sweep_asked = None
                self.master.tell({"kind": "swept", "left": -1})
            if self.master.gone is not None:
                self._outlive(now)
            if not self.master.leaving:
                try:
                    self.heard = self._sleep()
                except (Unavailable, ServerRefused) as error:
                    self._lost(error)
        return self.code

    def _sleep(self) -> set[int]:
        """Until something is to be done; which descriptors can be read. Looking for work to hand back is all that a
        look wakes up for."""
        now = time.monotonic()
        moments = [self.master.speak_at, *self.follow_ups]
        fds = [] if self.master.gone is not None else [self.master.fileno()]
        if self.duties is None:
            if self.master.serving:
                moments.append(self.lines.retry_at)
            return wait_readable(fds, max(0.0, min(moments) - now))
        moments += [self.at["sweep"] + SWEEP, now + self.duties.next_due(now)]
        if self.crontab is not None:
            moments.append(now + self.crontab.next_due(now))
        if self.lines.alarms is not None:
            fds += self.lines.alarms.filenos()
        until = min(moments)
        while not (heard := wait_readable(fds, max(0.0, min(until, self.at["look"]) - now))):
            now = time.monotonic()
            if now >= until:
                break
            if now >= self.at["look"]:
                held = self.duties.hand_back(self.board, self.slots, time.monotonic_ns())
                self.at["look"] = now + (LOOK_BUSY if held else LOOK_IDLE)
        return heard

    # ------------------------------------------------------------------ the connection

    def _connect(self, now: float) -> None:
        try:
            self._take_up(*self.lines.open(self._set_aside), now)
        except (Unavailable, ServerRefused, UnsafeServer) as error:
            if hopeless(error) and not self.ready and self.master.gone is None:
                self.code, self.master.leaving = roles.fail(self.start.channel, str(error)), True
                return
            if not self.ready and now - self.born < PATIENCE and isinstance(error, Unavailable):
                self.duties = self.crontab = None
                self.lines.drop(0.01)
                return
            self._lost(error)
        if not self.ready:
            self.ready = True
            self.master.tell({"kind": "ready"})

    def _take_up(self, link: Link | ClusterLink, alarms: Alarms, now: float) -> None:
        for warning in link.server.warnings:
            self.log.warning("redis: " + warning)
        self.clock = Clock(now)
        self.duties = Stewardship(
            link.queue,
            {},
            self.start.host,
            self.start.nonce,
            self.master.policies,
            self.clock,
            self.metrics.recovered,
            self._late,
            self.lines.set_aside if link.apart else None,
        )
        if self.settings.cron:
            self.crontab = self._crontab(link)
        publicity.make_known(link, self.settings)
        self._know_queues(link, self.duties)
        alarms.listen(self.duties.queues)
        self.at |= dict.fromkeys(("beat", "sweep", "look"), 0.0)
        self.at["queues"] = now
        self.lines.well()

    def _crontab(self, link: Link | ClusterLink) -> Crontab:
        from supervisor.crontab import Crontab  # who has no entries need not know how to count time

        link.queue.teach(("last_tick", "tick"))  # a tick has no time for a second trip
        entries, queues = self.settings.cron, self.settings.queues
        clock = Clock(time.monotonic()) if link.apart else self.clock
        return Crontab(link.queue, entries, queues, self.master.policies, clock, self._late, self.log, apart=link.apart)

    def _late(self, seconds: float) -> None:
        self.metrics.lateness([seconds])

    def _know_queues(self, link: Link | ClusterLink, duties: Stewardship) -> None:
        found = publicity.all_queues(link, self.settings, duties.queues)
        reached = self.lines.reached(found)
        found = {queue: settings for queue, settings in found.items() if queue in reached}
        if set(found) != set(duties.queues):
            duties.queues.clear()
            duties.queues.update(found)
            self.at["sweep"] = 0.0

    def _set_aside(self, queue: str, error: JobQueueError) -> None:
        if self.duties is not None:
            self.duties.drop(queue)
        self.lines.set_aside(queue, error)

    def _lost(self, error: JobQueueError) -> None:
        self.duties = self.crontab = None
        self.lines.lost(error)

    # ------------------------------------------------------------------ the work

    def _work(self, duties: Stewardship, now: float) -> None:
        link, alarms = self.lines.link, self.lines.alarms
        assert link is not None and alarms is not None
        if link.look is not None:
            link.look()
        for told in list(self.master.deaths.values()):
            self._recover(duties, told)
        for queue in alarms.heard(self.heard, now):
            duties.promote_now(queue, now)
        alarms.listen(duties.queues)
        duties.promote_due(now)
        if self.crontab is not None:
            self.crontab.tick_due(now)
        if now >= self.at["look"]:
            held = duties.hand_back(self.board, self.slots, time.monotonic_ns())
            self.at["look"] = time.monotonic() + (LOOK_BUSY if held else LOOK_IDLE)
        if self.follow_ups and now >= self.follow_ups[0]:
            self.follow_ups.pop(0)
            duties.return_next()
        if now - self.at["sweep"] >= SWEEP:
            self._sweep(duties, now)
        if now - self.at["beat"] >= BEAT:
            self.at["beat"] = now
            duties.beat()
            at_ms = duties.server_ms()
            publicity.publish_host(link, self.settings, self.start, self._rows(), at_ms)
        if now - self.at["dead"] >= DEAD:
            self.at["dead"] = now
            duties.expire_dead()
        if now - self.at["queues"] >= QUEUES or link.news:
            self.at["queues"] = now
            self._know_queues(link, duties)
        self.metrics.flush_if_due(now)
        if self.master.sweep_asked is not None:
            self._answer_last_sweep(duties, now)

    def _recover(self, duties: Stewardship, told: Told) -> None:
        birth = self._birth_of(told.worker)
        if birth is not None and told.cause != "exited":
            told = replace(told, last=lastwords.told(*lastwords.read(birth)))
        n = duties.recover(told)
        if birth is not None:
            lastwords.forget(birth)
        self.master.deaths.pop(told.seq, None)
        self.metrics.recovery(time.monotonic() - told.at)
        if n or told.cause != "exited":
            self.log.info("recovered", worker=told.worker, cause=told.cause, detail=told.detail, jobs=n)
        if told.seq:
            self.master.tell({"kind": "recovered", "seq": told.seq})
        self.follow_ups = sorted([*self.follow_ups, *(time.monotonic() + after for after in AFTER_A_DEATH)])[-16:]

    def _birth_of(self, worker: str) -> int | None:
        """Of a worker of this master; others keep their words elsewhere."""
        try:
            name = identity.parse(worker)
        except identity.BadWorkerName:
            return None
        return name.birth if (name.host, name.nonce) == (self.start.host, self.start.nonce) else None

    def _sweep(self, duties: Stewardship, now: float) -> None:
        self.at["sweep"] = now
        self.slots = tuple(self.board.lived_in())
        known = {told.worker for told in self.master.deaths.values()}
        for told in duties.sweep(now, self._row_of, master_gone=self.master.gone is not None):
            if told.worker not in known:
                self._recover(duties, told)

    def _row_of(self, worker: str) -> Row | None:
        return next((row for row in self._rows() if row.worker_id == worker), None)

    def _rows(self) -> Iterator[Row]:
        for slot in self.board.lived_in():
            yield self.board.read(slot)

    def _answer_last_sweep(self, duties: Stewardship, now: float) -> None:
        """All workers are gone: put back whatever they left, and count what is still in a list of ours. Queues that cannot be reached are
        given a moment."""
        link, asked = self.lines.link, self.master.sweep_asked
        assert link is not None and asked is not None
        if link.aside and now - asked < TIMEOUT:
            return
        for told in duties.sweep(now, self._row_of, master_gone=True):
            self._recover(duties, told)
        duties.return_next()
        self.master.tell({"kind": "swept", "left": -1 if link.aside else self._left(duties)})
        # Only now: a sweep that an error cut short is made again with the next connection.
        self.master.sweep_asked = None

    def _left(self, duties: Stewardship) -> int:
        link, left = self.lines.link, 0
        assert link is not None
        for queue in duties.queues:
            for worker in duties.port.leases(queue)[0]:
                if worker.startswith(f"{self.start.host}.{self.start.nonce}."):
                    left += link.wire.call("LLEN", link.queue.keys(queue).processing(worker))
        return left

    # ------------------------------------------------------------------ without a master

    def _outlive(self, now: float) -> None:
        """Keep hard limits for workers that finish their last job; end them after drain_timeout; leave after the last
        one."""
        assert self.master.gone is not None
        late = now - self.master.gone > self.settings.shutdown.drain_timeout
        living, ended = end_overdue(self._rows(), now, late=late)
        for told in ended:
            self.master.deaths.setdefault(told.seq, told)
        self.at["sweep"] = min(self.at["sweep"], now - SWEEP + 0.1)
        if living:
            return
        if self.duties is not None:
            for told in self.duties.sweep(now, self._row_of, master_gone=True):
                self._recover(self.duties, told)
            self.duties.return_next()
            self.master.leaving = True
        elif late or now - self.master.gone > self.settings.redis.socket_timeout:
            self.master.leaving = True


def main() -> int:
    """Entry of the process."""
    start = roles.begin("jqd: steward")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it leaves last, on the master's word
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        steward = Steward(start)
    except LayoutMismatch as error:
        return roles.fail(start.channel, str(error))
    if start.candidate:
        nobody = f"{start.host}.{start.nonce}.nobody"
        if (why := probation.refusal(steward.settings, nobody, TIMEOUT)) is not None:
            return roles.fail(start.channel, why)
        steward.master.tell({"kind": "admitted"})  # what follows is its word to serve
    return steward.run()


if __name__ == "__main__":
    roles.run(main)
