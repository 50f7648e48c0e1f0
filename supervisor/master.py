"""The master: waits, plans, carries out. No Redis, no HTTP, no user code, no thread, one wait.

Not where decisions are: `fleet` plans the workers, `rolekeeping` the roles, `shutdown` the order of leaving. Events only
change facts here. Called by the command line, once a process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from supervisor import fleet, identity, metrics_dir, spawn, terminal
from supervisor.channel import Channel, Message
from supervisor.desired import Action, Desired, GiveUp, Policy, Rollback, Settled, Stop
from supervisor.generation import Generation, Generations, resized
from supervisor.leaving import EXIT_UNUSABLE, Leaving
from supervisor.loop import Loop, Turn
from supervisor.notify import Notifier
from supervisor.pidfile import Pidfile, PidfileLocked
from supervisor.reload import Reload
from supervisor.report import Report
from supervisor.rolekeeping import Keeper, Role, RoleState
from supervisor.scoreboard import Scoreboard
from supervisor.settings import Settings
from supervisor.shutdown import Stage
from supervisor.slot import Slot
from supervisor.wanted import Facts, wanted_roles
from supervisor.workers import Workers

EXIT_BUG: Final = 70

LOOK_BUSY: Final = 0.05  # seconds between looks at the rows while anything runs
LOOK_IDLE: Final = 0.25
WEIGH: Final = 1.0  # seconds between looks at the memory of workers that have a hard limit
GRACE: Final = 1.0  # seconds after a stall in which no deadline counts as passed
EXPORTER_PATIENCE: Final = 2.0  # heavy to import, so it starts after the first workers, but not later than this
FORKSERVER_ATTEMPTS: Final = 3

SIGNALS: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


def run(settings: Settings, *, load: Callable[[], Settings], config_path: str, notifier: Notifier, log: Any) -> int:
    """Supervise until asked to stop. `load` reads the file again and raises what `supervisor.settings.load` raises.

    Returns 0 asked to stop and everything was put back, 70 a bug, 75 jobs stayed in processing lists, 78 unusable.
    """
    terminal_seen = terminal.Terminal.at_start()
    with contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        loop.install(SIGNALS)
        try:
            if settings.pidfile:
                pidfile = Pidfile(settings.pidfile)
                pidfile.acquire()
                stack.callback(pidfile.release)
            metrics = metrics_dir.prepare_directory(sum(pool.processes for pool in settings.pools))
        except (PidfileLocked, OSError) as error:
            log.error("not started", error=str(error))
            return EXIT_UNUSABLE
        os.environ[metrics_dir.VARIABLE] = metrics
        stack.callback(metrics_dir.remove_directory, metrics)
        try:
            return Master(settings, load, config_path, notifier, log, loop, terminal_seen).run()
        except Exception:  # noqa: BLE001 - the last one to know
            log.error("bug in the master", error=traceback.format_exc())
            return EXIT_BUG


class Master:
    """The shell around the plan. Every attribute is a fact; every method either changes facts or carries out a plan."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        config_path: str,
        notifier: Notifier,
        log: Any,
        loop: Loop,
        terminal_seen: terminal.Terminal,
    ) -> None:
        self.config_path, self.notifier, self.log, self.loop = config_path, notifier, log, loop
        self.terminal = terminal_seen
        spawn.become_subreaper()
        board = Scoreboard.create()
        host, nonce = identity.host(), identity.new_nonce()
        first = Generation.of(1, settings)
        self.generations = Generations({1: first})
        self.desired = Desired(1, first.pools())
        self.policy = Policy(abort_grace=settings.shutdown.abort_grace)
        self.keeper = Keeper(loop, log, board.fd, host, nonce)
        self.workers = Workers(loop, log, board, self._start_worker, host, nonce)
        self.workers.lay_out(self.desired.pools)
        self.embedded = settings.redis.url.startswith("embedded:")
        self.server_seen = not self.embedded  # the embedded server was ready once
        self.leaving = Leaving()
        self.next_look = self.next_weighing = self.wake_at = self.started = loop.now
        self.report = Report(notifier, log, config_path, self.workers, self.keeper, self.generations, loop.now)
        self.reload = Reload(self.generations, load, notifier, log, self._line)

    # One turn.

    def run(self) -> int:
        self.log.info("started", pid=os.getpid(), config=self.config_path, host=self.keeper.host)
        while self.leaving.stage is not Stage.GONE:
            self.turn(self.loop.wait(self._until()))
        self.log.info("stopped", code=self.leaving.exit_code, left=self.leaving.left or 0)
        return self.leaving.exit_code

    def _until(self) -> float:
        moments = [self.wake_at, self.next_look, self.report.wake_at(), self.workers.wake_at()]
        if self.generations.candidate is not None:
            moments.append(self.generations.deadline)
        if self.leaving.stage is Stage.SWEEP:
            moments.append(self.leaving.sweep_until)
        return min(moments)

    def turn(self, turn: Turn) -> None:
        """Facts first (sockets before deaths), then the plan, then the roles, then the word to the outside."""
        now = turn.now
        if turn.stalled:
            self._stalled(turn.stalled, now)
        for channel in turn.channels:
            self._read(channel, now)
        self._reap(now)
        self._tell_steward()  # before anything else: a dead worker's job waits for this word
        for number in turn.signals:
            self._signalled(number, now)
        self.workers.dump_next(now)
        if now >= self.next_look:
            self.workers.look()
            self.workers.ask_stacks(now)
            busy = any(slot.job is not None for slot in self.workers.slots.values())
            self.next_look = now + (LOOK_BUSY if busy else LOOK_IDLE)
            if now >= self.next_weighing:
                self.workers.weigh()
                self.next_weighing = now + WEIGH
        if self.generations.candidate is not None and now >= self.generations.deadline:
            self.reload.late(self.desired)
        plan_wake = self._carry_out(now)
        self._advance(now)
        wanted = wanted_roles(self._role_facts(now), self.generations, self.keeper.roles)
        self.keeper.want(wanted, self.generations.candidate)
        roles_wake = self.keeper.keep(now, self.policy.grace_until)
        self._tell_steward()
        self.report.make(self.desired, now, reloading=self.reload.going, problem=self.reload.problem)
        self.wake_at = min(plan_wake, roles_wake)

    def _stalled(self, seconds: float, now: float) -> None:
        """Every deadline may seem missed now: one grace for everybody before anybody is judged."""
        self.log.warning("the machine or the master was stopped", seconds=round(seconds, 3))
        self.policy = replace(self.policy, grace_until=now + GRACE)
        for role in self.keeper.roles:
            role.heard = now if role.heard is not None else None

    def _carry_out(self, now: float) -> float:
        """Plan and act until there is nothing to do; when to plan again."""
        wake_at = now
        for _ in range(20):
            self.desired = replace(self.desired, spawnable=self._spawnable(), proven=self.workers.proven)
            actions, wake_at = fleet.plan(self.workers.slots.values(), self.desired, self.policy, now)
            if not actions:
                break
            done = [self._act(action, now) for action in actions]
            self.report.changed = True
            if not any(done):
                return now + LOOK_BUSY  # nothing could be done: not again at once
        return wake_at

    def _act(self, action: Action, now: float) -> bool:
        match action:
            case Rollback():
                self._change(self.reload.rolled_back(self.desired, self.workers))
            case Settled():
                self._change(self.reload.settled(self.desired))
            case GiveUp():
                self._unusable("workers fail to start", self.workers.error or "see above", now)
            case _:
                return self.workers.act(action, self.policy, now)
        return True

    def _spawnable(self) -> frozenset[int]:
        if not self.server_seen:
            return frozenset()
        return frozenset(role.generation for role in self.keeper.named("forkserver") if role.ready)

    def _start_worker(self, slot: Slot, birth: int, generation: int, end: socket.socket) -> int | None:
        settings = self.generations[generation].settings
        preload = next(pool.preload for pool in settings.pools if pool.name == slot.pool)
        host, nonce = self.keeper.host, self.keeper.nonce
        if preload:
            role = self.keeper.find("forkserver", generation)
            word = {
                "kind": "spawn",
                "slot": slot.number,
                "birth": birth,
                "pool": slot.pool,
                "index": slot.index,
                "generation": generation,
            }
            return 0 if role is not None and role.send(word, (end.fileno(),)) else None
        spec = spawn.WorkerSpec(slot.number, birth, slot.pool, slot.index, generation, host, nonce, os.getpid())
        try:
            data = self.generations[generation].data
            return spawn.spawn_fresh_worker(spec, channel_end=end, board_fd=self.keeper.board_fd, settings=data)
        except OSError as error:
            self.log.error("worker not started", role="worker", slot=slot.name, error=str(error))
            return None

    # Events: what children say, deaths, signals.

    def _read(self, channel: Channel, now: float) -> None:
        if (slot := self.workers.by_channel(channel)) is not None:
            self.report.changed = True
            self.workers.read(slot, now)
        elif (role := self.keeper.by_channel(channel)) is not None:
            self._read_role(role, now)

    def _read_role(self, role: Role, now: float) -> None:
        channel = role.channel
        if channel is None:
            return
        for message, fds in channel.receive():
            taken = self._role_said(role, message, fds, now)
            for fd in fds:
                if fd != taken:
                    os.close(fd)
        if channel.closed:
            self.keeper.hung_up(role, now)

    def _role_said(self, role: Role, message: Message, fds: list[int], now: float) -> int | None:
        """Returns the descriptor that was kept, if any."""
        self.keeper.heard(role, message, now)
        match message.get("kind"):
            case "alive":
                return None
            case "ready":
                self.report.changed = True
                self.server_seen = self.server_seen or role.name == "redis"
                if role.name == "forkserver" and fds and role.generation in self.generations.known:
                    self.generations[role.generation].takes_registry(fds[0])
                    self._proved(role)
                    return fds[0]
            case "admitted":
                self._proved(role)
            case "recovered":
                self.workers.deaths.acknowledged(int(message.get("seq", 0)))
            case "swept":
                self.leaving.left = int(message.get("left", -1))
            case "failed":
                self._role_failed(role, message, now)
            case kind:
                self.log.warning("unknown word of a role", role=role.name, kind=kind)
        return None

    def _proved(self, role: Role) -> None:
        """Of the candidate: its handlers are imported, or Redis lets it in. With both the roll begins."""
        if role.generation == self.generations.candidate and self.generations.proved(role.name):
            self._change(self.reload.roll(self.desired))

    def _role_failed(self, role: Role, message: Message, now: float) -> None:
        if role.generation == self.generations.candidate:
            self.reload.failed(self.desired, role.error)
        elif message.get("exit", EXIT_UNUSABLE) == EXIT_UNUSABLE and not self._was_ready(role.name):
            self._unusable(f"{role.name} cannot work", role.error, now)
        else:
            self.log.error("role failed", role=role.name, pid=role.pid, error=role.error)

    def _was_ready(self, name: str) -> bool:
        return any(role.proven for role in self.keeper.named(name))

    def _reap(self, now: float) -> None:
        """All deaths; a number is freed only after everything was done that needs it."""
        while (pid := spawn.next_death()) is not None:
            self.report.changed = True
            if (role := self.keeper.by_pid(pid)) is not None:
                self._read_role(role, now)
                self._role_died(role, spawn.collect(pid), now)
            elif not self.workers.reap(pid, now):
                spawn.collect(pid)  # a stranger, adopted as subreaper or as PID 1
        self.workers.clean_up(self.desired.pools)

    def _role_died(self, role: Role, death: spawn.Death | None, now: float) -> None:
        expected = role.state is RoleState.STOPPING and not role.wanted
        event = self.log.info if expected else self.log.warning
        code, number = (death.code, death.signal) if death is not None else (None, None)
        event("role gone", role=role.name, pid=role.pid, generation=role.generation, code=code, signal=number)
        self.keeper.died(role, now)
        if role.name != "forkserver" or self.desired.stop is not Stop.RUN:
            return
        if role.generation == self.generations.candidate:
            self.reload.failed(self.desired, role.error or "its forkserver died while it imported the handlers")
        elif role.generation == self.desired.generation and self.desired.previous is not None:
            self._change(self.reload.rolled_back(self.desired, self.workers))
        elif not self._was_ready("forkserver") and role.backoff.failures >= FORKSERVER_ATTEMPTS:
            self._unusable("the forkserver dies while it imports the handlers", role.error, now)

    def _signalled(self, number: int, now: float) -> None:
        match number:
            case signal.SIGCHLD:
                return
            case signal.SIGTERM | signal.SIGINT:
                self._stop(Stop.DRAIN if self.desired.stop is Stop.RUN else Stop.ABORT, number, now)
            case signal.SIGQUIT:
                self._stop(Stop.ABORT, number, now)
            case signal.SIGHUP:
                self._hangup(now)
            case signal.SIGTTIN | signal.SIGTTOU:
                self._resize(1 if number == signal.SIGTTIN else -1)
            case signal.SIGUSR1:
                self.log.reopen()  # the files of other processes notice by themselves
            case signal.SIGUSR2:
                self.report.dump(self._line())
                self.workers.dump_stacks()

    # Stop.

    def _stop(self, stop: Stop, why: int | str, now: float) -> None:
        if self.desired.stop is Stop.ABORT or (stop is Stop.DRAIN and self.desired.stop is Stop.DRAIN):
            return
        shutdown_settings = self.generations[self.desired.generation].settings.shutdown
        stop_at = now if stop is Stop.ABORT else now + shutdown_settings.drain_timeout
        reason = signal.Signals(why).name if isinstance(why, int) else why
        self.log.info(stop.value, cause=reason, ready=fleet.ready(self.workers.slots.values()))
        self.desired = replace(self.desired, stop=stop, stop_at=stop_at, previous=None)
        self.generations.candidate = None
        self.notifier.stopping()
        self.report.changed = True

    def _unusable(self, what: str, error: str, now: float) -> None:
        self.log.error("unusable", cause=what, error=error)
        self.leaving.exit_code = EXIT_UNUSABLE
        self._stop(Stop.DRAIN, what, now)

    def _advance(self, now: float) -> None:
        # Nobody ever reached a queue: a server that refuses the steward refuses workers too.
        never = not self._was_ready("steward") and (not self.workers.proven or self.leaving.exit_code == EXIT_UNUSABLE)
        self.report.changed |= self.leaving.advance(
            now,
            stopping=self.desired.stop is not Stop.RUN,
            workers_gone=fleet.idle(self.workers.slots.values()),
            pointless=never,
            present=frozenset(role.name for role in self.keeper.roles if role.state is not RoleState.EMPTY),
        )

    # Reload.

    def _hangup(self, now: float) -> None:
        match self.terminal.judge_hangup():
            case terminal.Hangup.RELOAD:
                if self.desired.stop is Stop.RUN:
                    self.reload.begin(self.desired, now)
            case terminal.Hangup.DRAIN:
                self._stop(Stop.DRAIN, "the terminal is gone", now)
            case terminal.Hangup.IGNORE:
                return

    def _change(self, desired: Desired) -> None:
        """Other pools or another generation: rows for them, and their deadlines."""
        self.desired = desired
        self.workers.lay_out(desired.pools)
        abort_grace = self.generations[desired.generation].settings.shutdown.abort_grace
        self.policy = replace(self.policy, abort_grace=abort_grace)

    def _resize(self, by: int) -> None:
        if self.desired.stop is Stop.RUN:
            self._change(resized(self.desired, by))
            self.log.info("resized", pool=self.desired.pools[0].name, processes=self.desired.pools[0].processes)

    # Roles.

    def _role_facts(self, now: float) -> Facts:
        exporter_due = self.report.announced or now >= self.started + EXPORTER_PATIENCE
        return Facts(self.leaving.stage, self.desired, self.embedded, exporter_due)

    def _line(self) -> str:
        return self.report.line(self.desired, reloading=self.reload.going, problem=self.reload.problem)

    def _tell_steward(self) -> None:
        """Everything a steward should know and was not told yet; by level, so a new one needs no code of its own."""
        for role in self.keeper.named("steward"):
            if not role.spoken or role.state not in (RoleState.STARTING, RoleState.READY):
                continue
            if not role.serving and role.generation == self.desired.generation:
                role.serving = role.send({"kind": "serve"})
            if not role.serving:
                continue
            generation = self.generations.known.get(role.generation)
            if generation is not None and generation.registry is not None and not role.registered:
                role.registered = role.send({"kind": "registry"}, (generation.registry,))
            for seq, death in self.workers.deaths.after(role.told):
                if not role.send(death):
                    break
                role.told = seq
            if self.leaving.stage is Stage.SWEEP and not role.asked:
                role.asked = role.send({"kind": "last_sweep"})
