"""Starting and ending processes: exec of roles, orphans as our own children, deaths seen before they are collected.

Not a policy: nothing here decides when to start or kill. Called by the master; `die_with_parent` by every child.
Workers are forked by the forkserver, except those of a pool with `preload: false`, which are started here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from supervisor import channel, notify
from supervisor.channel import BOARD_FD, CHANNEL_FD, MASTER_PID, SETTINGS_FD
from supervisor.prctl import become_subreaper, die_with_parent

__all__ = [
    "Death", "WorkerSpec", "become_subreaper", "child_environment", "collect", "die_with_parent",
    "exec_module", "kill_group", "next_death",
    "open_pidfd", "spawn_fresh_worker", "spawn_role",
]  # fmt: skip

_ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HIGH_FD: Final = 64


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is told at birth."""

    slot: int
    birth: int
    pool: str
    index: int
    generation: int
    host: str
    nonce: str
    master_pid: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkerSpec:
        """Other keys are ignored, so a spawn message will do."""
        return cls(**{name: data[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended: an exit code, or the signal that killed it."""

    pid: int
    code: int | None
    signal: int | None


def spawn_role(
    name: str,
    *,
    channel_end: socket.socket,
    board_fd: int,
    master_pid: int,
    extra_env: Mapping[str, str] | None = None,
) -> int:
    """Start `supervisor.roles.NAME` as a fresh interpreter in a session of its own; its pid. Raises OSError."""
    return exec_module(
        [f"supervisor.roles.{name}"],
        {CHANNEL_FD: channel_end.fileno(), BOARD_FD: board_fd},
        {MASTER_PID: str(master_pid), **(extra_env or {})},
        own_session=True,
    )


def spawn_fresh_worker(spec: WorkerSpec, *, channel_end: socket.socket, board_fd: int, settings: bytes) -> int:
    """Start a worker of a `preload: false` pool as a fresh interpreter, our direct child; its pid. Raises OSError."""
    settings_fd = channel.memfd(settings, "jqd-settings")
    try:
        return exec_module(
            ["supervisor.roles.fresh_worker", json.dumps(spec.to_dict())],
            {CHANNEL_FD: channel_end.fileno(), BOARD_FD: board_fd, SETTINGS_FD: settings_fd},
            {MASTER_PID: str(spec.master_pid)},
            own_session=False,
        )
    finally:
        os.close(settings_fd)


def exec_module(module: Sequence[str], fds: Mapping[int, int], env: Mapping[str, str], *, own_session: bool) -> int:
    """Start `python -m MODULE ARGUMENTS…` with `fds` (number there → ours) and nothing else of ours; its pid. Raises OSError."""
    # -P: no file in the current folder may shadow what roles import; the forkserver adds it for handlers.
    arguments = [sys.executable, "-P", "-m", *module]
    _keep_to_ourselves()
    with _high(fds) as high:
        return os.posix_spawn(
            sys.executable,
            arguments,
            child_environment(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, source, target) for target, source in high.items()),
            ],
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            **({"setsid": True} if own_session else {"setpgroup": 0}),
        )


@contextlib.contextmanager
def _high(fds: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """The sources out of reach of the targets: dup2 onto 3 must not overwrite a source that is itself number 3."""
    high: dict[int, int] = {}
    try:
        for target, source in fds.items():
            high[target] = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
        yield high
    finally:
        for fd in high.values():
            os.close(fd)


def _keep_to_ourselves() -> None:
    """Descriptors we were ourselves born with (a lock of the script that started us) are not for our children to hold."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of this listing
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what is for the master alone, and with the way to this package if it is not installed."""
    environment = {key: value for key, value in os.environ.items() if key not in notify.VARIABLES}
    if os.path.basename(_ROOT) not in ("site-packages", "dist-packages"):
        paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path != _ROOT]
        environment["PYTHONPATH"] = os.pathsep.join([_ROOT, *paths])
    return environment | dict(extra)


def open_pidfd(pid: int) -> int | None:
    """A close-on-exec descriptor that becomes readable when `pid` dies; None if it is already gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def kill_group(pid: int, sig: int) -> None:
    """Send `sig` to the process group led by `pid`, or to `pid` alone if it leads none yet; nothing if it is gone."""
    if pid <= 1:
        raise ValueError(f"{pid} is not the pid of a child")
    try:
        os.killpg(pid, sig)
    except (ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sig)


def next_death() -> int | None:
    """The pid of a child that has died and was not collected, or None. The kernel still keeps its number, so:
    `while (pid := next_death()): kill_group(pid, SIGKILL); death = collect(pid)`; without collect it is the same again.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def collect(pid: int) -> Death | None:
    """Free a dead child's number and say how it ended; None if it lives or is not ours. Also for strangers as PID 1."""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return Death(pid, found.si_status, None)
    return Death(pid, None, found.si_status)
