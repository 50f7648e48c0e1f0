"""The master: waits, plans, carries out. No Redis, no HTTP, no user code, no thread, one wait.

Not where decisions are: `fleet` plans the workers, `rolekeeping` the roles, `shutdown` the order of leaving. Events only
change facts here. Called by the command line, once a process.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, Final

from supervisor import fleet, identity, shutdown, spawn, status, terminal
from supervisor.channel import Channel, Message
from supervisor.desired import Action, Desired, GiveUp, Policy, Rollback, Settled, Stop
from supervisor.generation import Generation, Generations, ReloadRefused, exporter_part, resized
from supervisor.loop import Loop, Turn
from supervisor.notify import Notifier
from supervisor.pidfile import Pidfile, PidfileLocked
from supervisor.rolekeeping import Keeper, Role, RoleState
from supervisor.scoreboard import Scoreboard
from supervisor.settings import Settings
from supervisor.shutdown import Stage
from supervisor.slot import Slot, State
from supervisor.workers import Workers

EXIT_DONE: Final = 0
EXIT_BUG: Final = 70
EXIT_JOBS_LEFT: Final = 75
EXIT_UNUSABLE: Final = 78

LOOK_BUSY: Final = 0.05  # seconds between looks at the rows while anything runs
LOOK_IDLE: Final = 0.25
GRACE: Final = 1.0  # seconds after a stall in which no deadline counts as passed
REPORT_EVERY: Final = 1.0
REPORT_GAP: Final = 0.1
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
    loop = Loop()
    loop.install(SIGNALS)
    pidfile = Pidfile(settings.pidfile) if settings.pidfile else None
    try:
        if pidfile is not None:
            pidfile.acquire()
    except (PidfileLocked, OSError) as error:
        log.error("not started", error=str(error))
        loop.close()
        return EXIT_UNUSABLE
    try:
        return Master(settings, load, config_path, notifier, log, loop, terminal_seen).run()
    except Exception:
        log.error("bug in the master", error=traceback.format_exc())
        return EXIT_BUG
    finally:
        loop.close()
        if pidfile is not None:
            pidfile.release()


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
        self.load, self.config_path, self.notifier, self.log, self.loop = load, config_path, notifier, log, loop
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
        self.exporter_generation = 1
        self.stage = Stage.RUNNING
        self.exit_code = EXIT_DONE
        self.left: int | None = None  # what the last sweep could not put back
        self.sweep_until = inf
        self.announced = False  # systemd was told READY
        self.reloading = False
        self.started = loop_now = loop.now
        self.next_look = self.next_report = self.last_report = loop_now
        self.next_ping = loop_now
        self.wake_at = loop_now
        self.changed = True
        self.reported: tuple[str, str] = ("", "")
        self.set_title = status.title_writer()

    # One turn.

    def run(self) -> int:
        self.log.info("started", pid=os.getpid(), config=self.config_path, host=self.keeper.host)
        while self.stage is not Stage.GONE:
            self.turn(self.loop.wait(self._until()))
        self.log.info("stopped", code=self.exit_code, left=self.left or 0)
        return self.exit_code

    def _until(self) -> float:
        moments = [self.wake_at, self.next_look, self.next_report]
        if self.notifier.watchdog_interval is not None:
            moments.append(self.next_ping)
        if self.generations.candidate is not None:
            moments.append(self.generations.deadline)
        if self.stage is Stage.SWEEP:
            moments.append(self.sweep_until)
        return min(moments)

    def turn(self, turn: Turn) -> None:
        """Facts first (sockets before deaths), then the plan, then the roles, then the word to the outside."""
        now = turn.now
        if turn.stalled:
            self._stalled(turn.stalled, now)
        for channel in turn.channels:
            self._read(channel, now)
        self._reap(now)
        for number in turn.signals:
            self._signalled(number, now)
        if now >= self.next_look:
            self.workers.look()
            busy = any(slot.job is not None for slot in self.workers.slots.values())
            self.next_look = now + (LOOK_BUSY if busy else LOOK_IDLE)
        if self.generations.candidate is not None and now >= self.generations.deadline:
            self._reload_failed("its forkserver is not ready in time")
        plan_wake = self._carry_out(now)
        self._advance(now)
        self.keeper.want(self._wanted_roles(now))
        roles_wake = self.keeper.keep(now, self.policy.grace_until)
        self._tell_steward()
        self._report(now)
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
            self.changed = True
            if not any(done):
                return now + LOOK_BUSY  # nothing could be done: not again at once
        return wake_at

    def _act(self, action: Action, now: float) -> bool:
        match action:
            case Rollback():
                self._roll_back(action)
            case Settled():
                self._settled()
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
            self.changed = True
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
                self.changed = True
                self.server_seen = self.server_seen or role.name == "redis"
                if role.name == "forkserver" and fds and role.generation in self.generations.known:
                    self.generations[role.generation].takes_registry(fds[0])
                    if role.generation == self.generations.candidate:
                        self._roll(now)
                    return fds[0]
            case "recovered":
                self.workers.deaths.acknowledged(int(message.get("seq", 0)))
            case "swept":
                self.left = int(message.get("left", -1))
            case "failed":
                self._role_failed(role, message, now)
            case kind:
                self.log.warning("unknown word of a role", role=role.name, kind=kind)
        return None

    def _role_failed(self, role: Role, message: Message, now: float) -> None:
        if role.name == "forkserver" and role.generation == self.generations.candidate:
            self._reload_failed(role.error)
        elif message.get("exit", EXIT_UNUSABLE) == EXIT_UNUSABLE and not self._was_ready(role.name):
            self._unusable(f"{role.name} cannot work", role.error, now)
        else:
            self.log.error("role failed", role=role.name, pid=role.pid, error=role.error)

    def _was_ready(self, name: str) -> bool:
        return any(role.proven for role in self.keeper.named(name))

    def _reap(self, now: float) -> None:
        """All deaths; a number is freed only after everything was done that needs it."""
        while (pid := spawn.next_death()) is not None:
            self.changed = True
            if (role := self.keeper.by_pid(pid)) is not None:
                self._read_role(role, now)
                self._role_died(role, spawn.collect(pid), now)
            elif not self.workers.reap(pid, now):
                spawn.collect(pid)  # a stranger, adopted as subreaper or as PID 1

    def _role_died(self, role: Role, death: spawn.Death | None, now: float) -> None:
        expected = role.state is RoleState.STOPPING and not role.wanted
        event = self.log.info if expected else self.log.warning
        code, number = (death.code, death.signal) if death is not None else (None, None)
        event("role gone", role=role.name, pid=role.pid, generation=role.generation, code=code, signal=number)
        self.keeper.died(role, now)
        if role.name != "forkserver" or self.desired.stop is not Stop.RUN:
            return
        if role.generation == self.generations.candidate:
            self._reload_failed(role.error or "its forkserver died while it imported the handlers")
        elif role.generation == self.desired.generation and self.desired.previous is not None:
            self._roll_back(Rollback(self.desired.previous.generation, -1))
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
                self._reopen_logs()
            case signal.SIGUSR2:
                self._dump()

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
        self.changed = True

    def _unusable(self, what: str, error: str, now: float) -> None:
        self.log.error("unusable", cause=what, error=error)
        self.exit_code = EXIT_UNUSABLE
        self._stop(Stop.DRAIN, what, now)

    def _advance(self, now: float) -> None:
        present = frozenset(role.name for role in self.keeper.roles if role.state is not RoleState.EMPTY)
        stage = shutdown.advance(
            self.stage,
            shutdown.Facts(
                stopping=self.desired.stop is not Stop.RUN,
                workers_gone=fleet.idle(self.workers.slots.values()),
                sweep_over=self._sweep_is_over(now),
                present=present,
            ),
        )
        if stage is self.stage:
            return
        if self.stage <= Stage.SWEEP < stage and self.left and self.exit_code == EXIT_DONE:
            self.exit_code = EXIT_JOBS_LEFT
        if stage is Stage.SWEEP:
            self.sweep_until = now + shutdown.SWEEP_TIMEOUT
        self.stage = stage
        self.changed = True

    def _sweep_is_over(self, now: float) -> bool:
        if self.left is not None:
            return True
        if not self.workers.proven and not self._was_ready("steward"):
            return True  # nobody ever reached a queue
        if now >= self.sweep_until:
            self.left = -1
            return True
        return False

    # Reload.

    def _hangup(self, now: float) -> None:
        match self.terminal.judge_hangup():
            case terminal.Hangup.RELOAD:
                self._reload(now)
            case terminal.Hangup.DRAIN:
                self._stop(Stop.DRAIN, "the terminal is gone", now)
            case terminal.Hangup.IGNORE:
                return

    def _reload(self, now: float) -> None:
        if self.desired.stop is not Stop.RUN:
            return
        self.notifier.reloading()
        self.reloading = True
        try:
            settings = self.load()
            current = self.generations[self.desired.generation].settings
            generation = self.generations.prepare(settings, current, now)
        except Exception as error:  # a fault of the file, whatever its kind, must leave everything as it is
            self._reload_failed(str(error) or repr(error), refused=isinstance(error, ReloadRefused))
            return
        self.log.info("reload", generation=generation.number, config=self.config_path)
        self._forget_generations()

    def _reload_failed(self, error: str, *, refused: bool = False) -> None:
        if not refused and self.generations.candidate is not None:
            self.generations.candidate = None
        self.generations.results["failed"] += 1
        self.log.error("reload failed", generation=self.desired.generation, error=error)
        self._reload_over()

    def _roll(self, _now: float) -> None:
        """The candidate's forkserver is ready: from here on the plan swaps the workers."""
        self.desired = self.generations.promote(self.desired)
        self.workers.lay_out(self.desired.pools)
        self._follow_settings()

    def _roll_back(self, action: Rollback) -> None:
        assert self.desired.previous is not None
        bad = self.desired.generation
        self.generations.results["rolled_back"] += 1
        self.log.error(
            "reload rolled back", generation=bad, back_to=action.generation, error=self.workers.error or "see above"
        )
        self.workers.slots = {slot.number: slot for slot in fleet.rolled_back(self.workers.slots.values(), bad)}
        self.desired = replace(self.desired.previous, previous=None)
        self.workers.lay_out(self.desired.pools)
        self._follow_settings()
        self._reload_over()

    def _settled(self) -> None:
        self.desired = replace(self.desired, previous=None)
        self.generations.results["ok"] += 1
        self.log.info("reloaded", generation=self.desired.generation)
        new, old = self.generations[self.desired.generation], self.generations[self.exporter_generation]
        if exporter_part(new.settings) != exporter_part(old.settings):
            self.exporter_generation = new.number
        self._reload_over()

    def _reload_over(self) -> None:
        rolling = self.desired.previous is not None or self.generations.candidate is not None
        if not rolling:
            self.reloading = False
            self._forget_generations()
        if not rolling and self.announced:
            self.notifier.ready(self._line())

    def _follow_settings(self) -> None:
        settings = self.generations[self.desired.generation].settings
        self.policy = replace(self.policy, abort_grace=settings.shutdown.abort_grace)

    def _forget_generations(self) -> None:
        needed = {1, self.desired.generation, self.exporter_generation}
        if self.desired.previous is not None:
            needed.add(self.desired.previous.generation)
        if self.generations.candidate is not None:
            needed.add(self.generations.candidate)
        self.generations.forget_all_but(needed)

    def _resize(self, by: int) -> None:
        if self.desired.stop is Stop.RUN:
            self.desired = resized(self.desired, by)
            self.workers.lay_out(self.desired.pools)
            self.log.info("resized", pool=self.desired.pools[0].name, processes=self.desired.pools[0].processes)

    # Roles.

    def _wanted_roles(self, now: float) -> dict[tuple[str, int], bytes]:
        """Which roles there should be, with their settings."""
        generations, stage = self.generations, self.stage
        current = self.desired.generation
        wanted: dict[tuple[str, int], bytes] = {}
        if self.embedded and shutdown.belongs("redis", stage):
            wanted["redis", 1] = generations[1].data
        if shutdown.belongs("forkserver", stage):
            previous = self.desired.previous
            for number in (current, previous.generation if previous else None, generations.candidate):
                if number is not None:
                    wanted["forkserver", number] = generations[number].data
        if self.server_seen and shutdown.belongs("steward", stage):
            wanted["steward", current] = generations[current].data
            new = self.keeper.find("steward", current)
            if new is None or not new.ready:  # the old one stays until the new one is ready
                for old in self.keeper.named("steward"):
                    if old.ready:
                        wanted["steward", old.generation] = old.settings
        exporter = generations[self.exporter_generation]
        if exporter.settings.http.listen is not None and self._exporter_may_run(now):
            wanted["exporter", exporter.number] = exporter.data
        return wanted

    def _exporter_may_run(self, now: float) -> bool:
        others = [role for role in self.keeper.named("exporter") if role.generation != self.exporter_generation]
        if any(role.state is not RoleState.EMPTY for role in others):
            return False  # the port is still the old one's
        if not shutdown.belongs("exporter", self.stage):
            return False
        started = self.announced or now >= self.started + EXPORTER_PATIENCE
        return started and (self.stage is Stage.RUNNING or bool(self.keeper.named("exporter")))

    def _tell_steward(self) -> None:
        """Everything a steward should know and was not told yet; by level, so a new one needs no code of its own."""
        for role in self.keeper.named("steward"):
            if not role.spoken or role.state not in (RoleState.STARTING, RoleState.READY):
                continue
            generation = self.generations.known.get(role.generation)
            if generation is not None and generation.registry is not None and not role.registered:
                role.registered = role.send({"kind": "registry"}, (generation.registry,))
            for seq, death in self.workers.deaths.after(role.told):
                if not role.send(death):
                    break
                role.told = seq
            if self.stage is Stage.SWEEP and role.ready and not role.asked:
                role.asked = role.send({"kind": "last_sweep"})

    # The word to the outside.

    def _report(self, now: float) -> None:
        if self.notifier.watchdog_interval is not None and now >= self.next_ping:
            self.notifier.watchdog()
            self.next_ping = now + self.notifier.watchdog_interval
        if self.changed and now < self.last_report + REPORT_GAP and not self._newly_ready():
            self.next_report = min(self.next_report, self.last_report + REPORT_GAP)
            return
        if not self.changed and now < self.next_report:
            return
        self.changed, self.last_report, self.next_report = False, now, now + REPORT_EVERY
        self._tell_exporter(now)
        line = self._line()
        ready = f"ready {fleet.ready(self.workers.slots.values())}/{status.size(self.desired)}"
        if self._newly_ready():
            self.announced = True
            self.notifier.ready(line)
            self.log.info("ready", workers=status.size(self.desired), seconds=round(now - self.started, 3))
        elif line != self.reported[0]:
            self.notifier.status(line)
        if ready != self.reported[1]:
            self.set_title(f"jqd: master [{self.config_path}] {ready}")
        self.reported = (line, ready)

    def _newly_ready(self) -> bool:
        full = fleet.ready(self.workers.slots.values()) >= status.size(self.desired)
        return full and not self.announced and self.desired.stop is Stop.RUN

    def _tell_exporter(self, now: float) -> None:
        for role in self.keeper.named("exporter"):
            if role.spoken and role.channel is not None and not role.channel.wants_write:
                role.send(
                    status.message(
                        self.workers.slots.values(),
                        self.desired,
                        self.keeper.roles,
                        self.workers.restarts,
                        self.generations.results,
                        now,
                    )
                )

    def _line(self) -> str:
        slots = list(self.workers.slots.values())
        return status.line(slots, self.desired, self.workers.joined(), reloading=self.reloading)

    def _reopen_logs(self) -> None:
        reopen = getattr(self.log, "reopen", None)
        if reopen is not None:
            reopen()
        for role in self.keeper.roles:
            if role.spoken:
                role.send({"kind": "reopen"})

    def _dump(self) -> None:
        self.log.info("state", stage=self.stage.name.lower(), status=self._line(), pid=os.getpid())
        for slot in self.workers.slots.values():
            if slot.state is not State.EMPTY:
                row = self.workers.board.read(slot.number)
                job = {"job": row.job_id, "type": row.type} if row.birth == slot.birth and row.running else {}
                self.log.info("state", role="worker", **{**status.slot_state(slot), **job})
        for role in self.keeper.roles:
            fields = status.role_state(role)
            self.log.info("state", role=fields.pop("name"), **fields)
        self.workers.dump_stacks()
