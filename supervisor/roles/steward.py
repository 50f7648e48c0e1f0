"""The steward process: puts back what dead workers held, beats for the living, promotes what is due. One loop, one
wait, no threads.

Not the master, which only tells it who died, and not the duties themselves (`supervisor.stewardship`). After any
error of Redis it opens a new connection and starts over with a sweep; a lost word of the master costs nothing,
because the sweep finds orphans by itself. When the master is gone it stays until the last worker has left: it
enforces hard limits then and ends them after `drain_timeout`.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Final

import msgspec

from jobqueue.errors import JobQueueError, ServerRefused, TlsFailed, Unavailable, UnsafeServer
from jobqueue.handlers import Registry, TypePolicy
from jobqueue.redis.keys import host_key, queues_key
from jobqueue.redis.session import Link
from jobqueue.redis.wire import PENDING, Wire, wait_readable
from jobqueue.settings import EVERY_QUEUE, QueueSettings, settings_of
from supervisor import channel as channels
from supervisor import identity, lastwords, logs, probation, roles, spawn
from supervisor.channel import ChannelClosed, Message
from supervisor.metrics import StewardMetrics
from supervisor.recovery import Told
from supervisor.scoreboard import LayoutMismatch, Row, Scoreboard
from supervisor.settings import Settings, decode, secrets
from supervisor.stewardship import Clock, Stewardship

ALIVE: Final = 0.5
BEAT: Final = 3.0
SWEEP: Final = 1.0
DEAD: Final = 60.0  # how often dead letters are looked at for their age
QUEUES: Final = 5.0  # how often the registry of queues is read
LOOK_BUSY, LOOK_IDLE = 0.010, 0.025
TIMEOUT: Final = 2.0  # of one reply: the master replaces a steward that is silent for 5 s
SNAPSHOT_TTL: Final = 15  # seconds
PATIENCE: Final = 2.0  # seconds a server that starts beside us may take before it counts as missing
ALARM_BLOCK: Final = 1  # seconds a call stays parked on the alarms
ALARM_PATIENCE: Final = 3.0  # how much later its answer may come before the connection counts as lost
SHOWN: Final = ("pid", "generation", "ready", "queue", "held", "done", "job_id", "type", "running_seconds")
AFTER_A_DEATH: Final = (0.02, 0.2)  # when to look for a job that its woken worker never claimed


@contextlib.contextmanager
def _comfort() -> Iterator[None]:
    """What only dashboards need must not keep a steward from its duties when the server's memory is full."""
    try:
        yield
    except ServerRefused as refused:
        if refused.code != "OOM":
            raise


class Steward:
    """All of the process's state. `start`: what the master said first."""

    def __init__(self, start: roles.Start) -> None:
        self.start, self.channel = start, start.channel
        self.settings: Settings = decode(start.settings)
        self.board = Scoreboard.open(start.board_fd)
        logs.configure("steward", self.settings.log, secrets=secrets(self.settings), generation=start.generation)
        self.log = logs.get_logger("steward")
        self.metrics = StewardMetrics(start.generation)
        self.born = time.monotonic()
        self.clock = Clock(self.born)
        self.policies: dict[str, TypePolicy] = {}
        self.deaths: dict[int, Told] = {}
        self.link: Link | None = None
        self.alarm: Wire | None = None
        self.alarm_asked = 0.0
        self.duties: Stewardship | None = None
        self.ready = self.down = self.leaving = False
        self.last_sweep: float | None = None  # since when the master waits for the answer
        self.orphaned: float | None = None  # since when the master is gone
        self.retry_at = math.inf if start.candidate else 0.0
        self.delay = 0.0
        self.at = dict.fromkeys(("alive", "beat", "sweep", "queues", "dead", "look"), 0.0)
        self.follow_ups: list[float] = []
        self.slots: tuple[int, ...] = ()
        self.code = 0
        self.heard: set[int] = {self.channel.fileno()}  # descriptors that can be read

    # ------------------------------------------------------------------ the loop

    def run(self) -> int:
        """Until told to stop, or the last worker of a dead master has left."""
        while not self.leaving:
            now = time.monotonic()
            self._speak(now)
            if self.channel.fileno() in self.heard:
                self._listen(now)
            if self.link is None and now >= self.retry_at:
                self._connect(now)
            if self.duties is not None:
                try:
                    self._work(self.duties, now)
                except (Unavailable, ServerRefused) as error:
                    self._lost(error)
            elif self.last_sweep is not None and now - self.last_sweep > TIMEOUT:
                self.last_sweep = None
                self._tell({"kind": "swept", "left": -1})
            if self.orphaned is not None:
                self._outlive(now)
            if not self.leaving:
                try:
                    self.heard = self._sleep()
                except (Unavailable, ServerRefused) as error:
                    self._lost(error)
        return self.code

    def _sleep(self) -> set[int]:
        """Until something is to be done; which descriptors can be read. Looking for work to hand back is all that a
        look wakes up for."""
        now = time.monotonic()
        moments = [self.at["alive"] + ALIVE, *self.follow_ups]
        fds = [] if self.orphaned is not None else [self.channel.fileno()]
        if self.duties is None:
            return wait_readable(fds, max(0.0, min(*moments, self.retry_at) - now))
        moments += [self.at["sweep"] + SWEEP, now + self.duties.next_due(now)]
        if self.alarm is not None:
            fds.append(self.alarm.fileno())
        until = min(moments)
        while not (heard := wait_readable(fds, max(0.0, min(until, self.at["look"]) - now))):
            now = time.monotonic()
            if now >= until:
                break
            if now >= self.at["look"]:
                held = self.duties.hand_back(self.board, self.slots, time.monotonic_ns())
                self.at["look"] = now + (LOOK_BUSY if held else LOOK_IDLE)
        return heard

    def _speak(self, now: float) -> None:
        if self.orphaned is None and now - self.at["alive"] >= ALIVE:
            self._tell({"kind": "alive"})
        if now - self.at["alive"] >= ALIVE:
            self.at["alive"] = now

    def _tell(self, message: Message) -> None:
        try:
            self.channel.send(message)
            self.channel.flush()
        except ChannelClosed:
            self._master_gone()

    def _listen(self, now: float) -> None:
        if self.orphaned is not None:
            return
        for message, fds in self.channel.receive():
            match message.get("kind"):
                case "died":
                    row = message.get("row")
                    told = Told(
                        message["seq"], message["worker"], message["cause"], message.get("detail", ""), row, now
                    )
                    self.deaths[told.seq] = told
                case "registry":
                    self.policies.update(Registry.from_description(channels.read_memfd(fds[0])))
                case "serve":
                    self.retry_at = now
                case "last_sweep":
                    self.last_sweep = now
                case "stop":
                    self.leaving = True
                case kind:
                    self.log.warning("unknown word of the master", kind=kind)
            for fd in fds:
                os.close(fd)
        if self.channel.closed:
            self._master_gone()

    def admitted(self) -> None:
        """Say that Redis lets us in; what follows is the master's word to serve."""
        self._tell({"kind": "admitted"})

    def _master_gone(self) -> None:
        if self.orphaned is None and not self.leaving:
            self.orphaned = time.monotonic()
            self.log.warning("the master is gone, waiting for its workers to finish")

    # ------------------------------------------------------------------ the connection

    def _connect(self, now: float) -> None:
        try:
            self.link = Link(self.settings.redis, self.settings.queues, "jqd:steward", TIMEOUT)
            self.alarm = self.link.dial()
            self._take_up(self.link, now)
        except (Unavailable, ServerRefused, UnsafeServer) as error:
            hopeless = isinstance(error, UnsafeServer | TlsFailed) or (
                isinstance(error, ServerRefused) and error.code in probation.HOPELESS
            )
            if hopeless and not self.ready and self.orphaned is None:
                self.code, self.leaving = roles.fail(self.channel, str(error)), True
                return
            if not self.ready and now - self.born < PATIENCE and isinstance(error, Unavailable):
                self._drop()
                self.retry_at = time.monotonic() + 0.01
                return
            self._lost(error)
        if not self.ready:
            self.ready = True
            self._tell({"kind": "ready"})

    def _take_up(self, link: Link, now: float) -> None:
        for warning in link.server.warnings:
            self.log.warning("redis: " + warning)
        self.clock = Clock(now)
        self.duties = Stewardship(
            link.queue,
            {},
            self.start.host,
            self.start.nonce,
            self.policies,
            self.clock,
            self.metrics.recovered,
            lambda seconds: self.metrics.lateness([seconds]),
        )
        self._know_queues(link, self.duties)
        self._wait_for_alarms(self.duties)
        self.at |= dict.fromkeys(("beat", "sweep", "look"), 0.0)
        self.at["queues"] = now
        if self.down:
            self.log.warning("Redis is back")
        self.down, self.delay = False, 0.0

    def _know_queues(self, link: Link, duties: Stewardship) -> None:
        """Queues of the settings, which are made known to everybody, and those that others made known."""
        configured = [q for pool in self.settings.pools for q in pool.queues]
        configured = list(dict.fromkeys([*configured, *(q for q in self.settings.queues if q != EVERY_QUEUE)]))
        if not duties.queues:
            with _comfort():
                link.queue.register(configured)
        found: dict[str, QueueSettings] = {q: self.settings.queue(q) for q in configured}
        for member in link.wire.call("SMEMBERS", queues_key(self.settings.redis.key_prefix)):
            name, equals, key = member.decode("utf-8", "replace").partition("=")
            if name and name not in found and not set("{}") & set(name + key):
                found[name] = settings_of(self.settings.queues, name)
                if equals:
                    found[name] = msgspec.structs.replace(found[name], key=key)
                    link.queue.settings[name] = found[name]
        if set(found) != set(duties.queues):
            duties.queues.clear()
            duties.queues.update(found)
            self.at["sweep"] = 0.0

    def _wait_for_alarms(self, duties: Stewardship) -> None:
        """One parked call on the alarms of all queues: a token there says that something earlier than known is due."""
        assert self.alarm is not None and self.link is not None
        self.alarm.send("BLPOP", *[self.link.queue.keys(q).alarm for q in duties.queues], ALARM_BLOCK)
        self.alarm_asked = time.monotonic()

    def _drop(self) -> None:
        for wire in (self.alarm, self.link):
            if wire is not None:
                wire.close()
        self.link = self.alarm = self.duties = None

    def _lost(self, error: JobQueueError) -> None:
        self._drop()
        if not self.down:
            self.down = True
            self.log.warning("Redis is not available, waiting for it", cause=str(error))
        self.delay = min(1.0, self.delay * 2 or 0.01)
        self.retry_at = time.monotonic() + self.delay * (0.5 + random.random() / 2)

    # ------------------------------------------------------------------ the work

    def _work(self, duties: Stewardship, now: float) -> None:
        assert self.link is not None
        if self.link.look is not None:
            self.link.look()
        for told in list(self.deaths.values()):
            self._recover(duties, told)
        if self.alarm is not None and self.alarm.fileno() in self.heard:
            self._hear_alarm(duties, now)
        elif self.alarm is not None and now - self.alarm_asked > ALARM_BLOCK + ALARM_PATIENCE:
            raise self.alarm.lost(
                "the parked call on the alarms was not answered in time"
            )  # else it would be deaf for ever
        duties.promote_due(now)
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
            self._snapshot(self.link)
        if now - self.at["dead"] >= DEAD:
            self.at["dead"] = now
            duties.expire_dead()
        if now - self.at["queues"] >= QUEUES:
            self.at["queues"] = now
            self._know_queues(self.link, duties)
        self.metrics.flush_if_due(now)
        if self.last_sweep is not None:
            self._answer_last_sweep(duties, now)

    def _recover(self, duties: Stewardship, told: Told) -> None:
        birth = self._birth_of(told.worker)
        if birth is not None and told.cause != "exited":
            told = replace(told, last=lastwords.told(*lastwords.read(birth)))
        n = duties.recover(told)
        if birth is not None:
            lastwords.forget(birth)
        self.deaths.pop(told.seq, None)
        self.metrics.recovery(time.monotonic() - told.at)
        if n or told.cause != "exited":
            self.log.info("recovered", worker=told.worker, cause=told.cause, detail=told.detail, jobs=n)
        if told.seq and self.orphaned is None:
            self._tell({"kind": "recovered", "seq": told.seq})
        self.follow_ups = sorted([*self.follow_ups, *(time.monotonic() + after for after in AFTER_A_DEATH)])[-16:]

    def _birth_of(self, worker: str) -> int | None:
        """Of a worker of this master; others keep their words elsewhere."""
        try:
            name = identity.parse(worker)
        except identity.BadWorkerName:
            return None
        return name.birth if (name.host, name.nonce) == (self.start.host, self.start.nonce) else None

    def _hear_alarm(self, duties: Stewardship, now: float) -> None:
        assert self.alarm is not None
        reply = self.alarm.poll()
        if reply is PENDING:
            return
        if isinstance(reply, ServerRefused):
            if reply.code != "UNBLOCKED":
                raise reply
        elif reply is not None:
            for queue in duties.queues:
                if self.link is not None and self.link.queue.keys(queue).alarm.encode() == reply[0]:
                    duties.promote(queue, now)
        self._wait_for_alarms(duties)

    def _sweep(self, duties: Stewardship, now: float) -> None:
        self.at["sweep"] = now
        self.slots = tuple(self.board.lived_in())
        known = {told.worker for told in self.deaths.values()}
        for told in duties.sweep(now, self._row_of, master_gone=self.orphaned is not None):
            if told.worker not in known:
                self._recover(duties, told)

    def _row_of(self, worker: str) -> Row | None:
        return next((row for row in self._rows() if row.worker_id == worker), None)

    def _rows(self) -> Iterator[Row]:
        for slot in self.board.lived_in():
            yield self.board.read(slot)

    def _snapshot(self, link: Link) -> None:
        """What this host does, for dashboards: a string that expires by itself."""
        now = time.monotonic_ns()
        workers = []
        for row in self._rows():
            fields = asdict(row)
            fields["running_seconds"] = (now - row.start_ns) / 1e9 if row.running else None
            workers.append({"worker": row.worker_id} | {name: fields[name] for name in SHOWN})
        data = {
            "host": self.start.host,
            "nonce": self.start.nonce,
            "hostname": os.uname().nodename,
            "master_pid": self.start.master_pid,
            "at_ms": int(self.clock.server_ms(time.monotonic())),
            "workers": workers,
        }
        key = host_key(self.settings.redis.key_prefix, f"{self.start.host}.{self.start.nonce}")
        with _comfort():
            link.wire.call("SET", key, msgspec.json.encode(data), "EX", SNAPSHOT_TTL)

    def _answer_last_sweep(self, duties: Stewardship, now: float) -> None:
        """All workers are gone: put back whatever they left, and count what is still in a list of ours."""
        self.last_sweep = None
        for told in duties.sweep(now, self._row_of, master_gone=True):
            self._recover(duties, told)
        duties.return_next()
        self._tell({"kind": "swept", "left": self._left(duties)})

    def _left(self, duties: Stewardship) -> int:
        assert self.link is not None
        left = 0
        for queue in duties.queues:
            for worker in duties.port.leases(queue)[0]:
                if worker.startswith(f"{self.start.host}.{self.start.nonce}."):
                    left += self.link.wire.call("LLEN", self.link.queue.keys(queue).processing(worker))
        return left

    # ------------------------------------------------------------------ without a master

    def _outlive(self, now: float) -> None:
        """Keep hard limits for workers that finish their last job; end them after drain_timeout; leave after the last
        one."""
        assert self.orphaned is not None
        late = now - self.orphaned > self.settings.shutdown.drain_timeout
        living = 0
        for row in self._rows():
            if not row.worker_id or identity.start_time(row.pid) != row.starttime:
                continue
            living += 1
            over = row.hard_ns and row.running and row.hard_ns < time.monotonic_ns()
            if late or over:
                spawn.kill_group(row.pid, signal.SIGKILL)
                cause = "hard_limit" if over else "drain"
                self.deaths.setdefault(-row.birth, Told(-row.birth, row.worker_id, cause, "", asdict(row), now))
        self.at["sweep"] = min(self.at["sweep"], now - SWEEP + 0.1)
        if living:
            return
        if self.duties is not None:
            for told in self.duties.sweep(now, self._row_of, master_gone=True):
                self._recover(self.duties, told)
            self.duties.return_next()
            self.leaving = True
        elif late or now - self.orphaned > self.settings.redis.socket_timeout:
            self.leaving = True


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
        steward.admitted()
    return steward.run()


if __name__ == "__main__":
    roles.run(main)
