"""Role processes (redis, forkservers, steward, exporter): one record each, kept alive, replaced when dead or silent.

Not workers, those are slots of the plan. Not the roles' own code either (`supervisor.roles.NAME`). Called by the
master, which says who is wanted; what a role says is handed back to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any, Final

from supervisor import channel as channels
from supervisor import spawn
from supervisor.backoff import Backoff
from supervisor.channel import Channel, ChannelClosed, Message
from supervisor.loop import Loop
from supervisor.slot import FRESH, KILL_REPEAT

SILENCE: Final = 5.0
LONG_LIFE: Final = 1.0  # a role that was ready and lived so long is replaced at once: jobs wait for a steward
LONGEST_BACKOFF: Final = 5.0
START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = {"redis": 30.0, "steward": 5.0, "exporter": 5.0, "forkserver": 1.0}

# EMPTY     no process; perhaps waits out a backoff.
# STARTING  a process that has not said ready. It may say alive meanwhile, and is then held to it.
# READY     said ready, and has said something in the last few seconds.
# STOPPING  was told to stop, or its channel is closed; killed at its deadline.
# KILLED    was sent SIGKILL and has not been reaped.


class RoleState(Enum):
    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    KILLED = "killed"


class Move(Enum):
    """What is to be done about a role now."""

    START = "start"
    STOP = "stop"
    KILL = "kill"


@dataclass(slots=True, eq=False)
class Role:
    """One role of one generation. Times: monotonic seconds."""

    name: str
    generation: int
    settings: bytes
    wanted: bool = True
    state: RoleState = RoleState.EMPTY
    pid: int = 0
    channel: Channel | None = None
    since: float = 0.0
    heard: float | None = None  # when it last said something; None: this process has not yet
    deadline: float = inf
    backoff: Backoff = FRESH
    proven: bool = False  # was ready once
    error: str = ""  # what it said when it failed
    told: int = 0  # deaths up to this number were told to this process
    asked: bool = False  # this process was asked for the last sweep
    registered: bool = False  # this process was given its generation's registry
    serving: bool = True  # this process may work: it is no candidate's, or was told so

    @property
    def spoken(self) -> bool:
        """May be sent messages: a role reads nothing but its start before it has answered."""
        return self.channel is not None and not self.channel.closed and self.heard is not None

    @property
    def ready(self) -> bool:
        return self.state is RoleState.READY and self.channel is not None and not self.channel.closed

    def move(self, now: float, grace_until: float) -> Move | None:
        """The next move, by level and not by event. In a grace no deadline counts as passed."""
        seen = -inf if now < grace_until else now
        match self.state:
            case RoleState.EMPTY:
                return Move.START if self.wanted and not self.backoff.waiting(now) else None
            case RoleState.STARTING | RoleState.READY:
                if not self.wanted:
                    return Move.STOP
                return Move.KILL if self.silent_at() <= seen else None
            case RoleState.STOPPING | RoleState.KILLED:
                return Move.KILL if self.deadline <= seen else None

    def silent_at(self) -> float:
        return self.since + START_TIMEOUT if self.heard is None else self.heard + self.patience

    @property
    def patience(self) -> float:
        # A forkserver that imports, or a server that loads its file, cannot say anything meanwhile.
        return START_TIMEOUT if self.state is RoleState.STARTING and self.name in ("forkserver", "redis") else SILENCE

    def wake_at(self) -> float:
        match self.state:
            case RoleState.EMPTY:
                return self.backoff.not_before if self.wanted else inf
            case RoleState.STARTING | RoleState.READY:
                return self.silent_at()
            case RoleState.STOPPING | RoleState.KILLED:
                return self.deadline

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> bool:
        """False if it cannot hear us (any more)."""
        if self.channel is None or self.channel.closed:
            return False
        try:
            self.channel.send(message, fds)
        except (ChannelClosed, OSError):
            return False
        return True


@dataclass(slots=True)
class Keeper:
    """All role records, and what is done to their processes."""

    loop: Loop
    log: Any
    board_fd: int
    host: str
    nonce: str
    roles: list[Role] = field(default_factory=list)
    candidate: int | None = None  # the generation that is being prepared

    def find(self, name: str, generation: int) -> Role | None:
        return next((role for role in self.roles if role.name == name and role.generation == generation), None)

    def named(self, name: str) -> list[Role]:
        return [role for role in self.roles if role.name == name]

    def by_pid(self, pid: int) -> Role | None:
        return next((role for role in self.roles if role.pid == pid), None)

    def by_channel(self, channel: Channel) -> Role | None:
        return next((role for role in self.roles if role.channel is channel), None)

    def want(self, wanted: dict[tuple[str, int], bytes], candidate: int | None = None) -> None:
        """Exactly these (name, generation) → settings from now on. What is started for the candidate is told so."""
        self.candidate = candidate
        for (name, generation), settings in wanted.items():
            if self.find(name, generation) is None:
                self.roles.append(Role(name, generation, settings))
        for role in self.roles:
            role.wanted = (role.name, role.generation) in wanted
        self.roles = [role for role in self.roles if role.wanted or role.state is not RoleState.EMPTY]

    def keep(self, now: float, grace_until: float) -> float:
        """Make the moves that are due; when to look again."""
        for role in self.roles:
            match role.move(now, grace_until):
                case Move.START:
                    self.start(role, now)
                case Move.STOP:
                    self.stop(role, now)
                case Move.KILL:
                    self.kill(role, now)
                case None:
                    pass
        return max(min((role.wake_at() for role in self.roles), default=inf), grace_until if now < grace_until else 0)

    def start(self, role: Role, now: float) -> None:
        with contextlib.ExitStack() as stack:
            try:
                ours, theirs = channels.pair()
                stack.callback(theirs.close)
                settings = channels.memfd(role.settings, "jqd-settings")
                stack.callback(os.close, settings)
                pid = spawn.spawn_role(role.name, channel_end=theirs, board_fd=self.board_fd, master_pid=os.getpid())
            except OSError as error:  # no more processes, descriptors or memory: later perhaps
                role.backoff = role.backoff.failed(now, maximum=LONGEST_BACKOFF)
                self.log.error("role not started", role=role.name, generation=role.generation, error=str(error))
                return
            self._started(role, pid, ours, now)
            word = {"kind": "start", "generation": role.generation, "host": self.host, "nonce": self.nonce}
            role.send({**word, "candidate": not role.serving}, (settings,))
        self.log.info("role started", role=role.name, pid=role.pid, generation=role.generation)

    def _started(self, role: Role, pid: int, ours: Channel, now: float) -> None:
        role.pid = pid
        role.state, role.since, role.channel = RoleState.STARTING, now, ours
        role.heard, role.deadline, role.error, role.told = None, inf, "", 0
        role.asked = role.registered = False
        role.serving = role.generation != self.candidate
        self.loop.watch(ours)

    def stop(self, role: Role, now: float) -> None:
        role.send({"kind": "stop"})
        role.state, role.since, role.deadline = RoleState.STOPPING, now, now + STOP_TIMEOUT[role.name]

    def kill(self, role: Role, now: float) -> None:
        if role.state is not RoleState.KILLED:
            self.log.warning(
                "role killed",
                role=role.name,
                pid=role.pid,
                generation=role.generation,
                cause="did not stop" if role.state is RoleState.STOPPING else "silent",
            )
        # Not the group: what a role started (the embedded server) ends by its own rules.
        with contextlib.suppress(ProcessLookupError):
            os.kill(role.pid, signal.SIGKILL)
        role.state, role.deadline = RoleState.KILLED, now + KILL_REPEAT

    def heard(self, role: Role, message: Message, now: float) -> None:
        """Any word is a sign of life."""
        role.heard = now
        match message.get("kind"):
            case "ready" if role.state is RoleState.STARTING:
                role.state, role.proven = RoleState.READY, True
                self.log.info("role ready", role=role.name, pid=role.pid, generation=role.generation)
            case "failed":
                role.error = str(message.get("error", ""))

    def hung_up(self, role: Role, now: float) -> None:
        """End-of-file: it is leaving, or has lost its way. It is not reaped yet."""
        if role.channel is not None:
            self.loop.forget(role.channel)
        if role.state in (RoleState.STARTING, RoleState.READY):
            role.state, role.deadline = RoleState.STOPPING, now + STOP_TIMEOUT[role.name]

    def died(self, role: Role, now: float) -> None:
        if role.channel is not None:
            self.loop.forget(role.channel)
        if role.proven and now - role.since >= LONG_LIFE:
            role.backoff = FRESH
        if role.wanted:
            role.backoff = role.backoff.failed(now, free=1 if role.proven else 0, maximum=LONGEST_BACKOFF)
        role.state, role.pid, role.channel, role.heard, role.deadline = RoleState.EMPTY, 0, None, None, inf
