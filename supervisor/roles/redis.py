"""The process `jqd: redis`: keeps the server of `redis.url: embedded:DIR`, one server a folder, its only child.

Not a Redis client of anybody's jobs. Started by the master before every other role.

- The folder is taken by a lock that dies with us (close-on-exec, so the server does not keep it). A server still there is one
  that outlived its keeper: it is told to save and shut down, waited for, and replaced by our own.
- The server is in a session of its own, so Ctrl-C does not reach it, and gets a SIGTERM from the kernel if we are killed: no
  server lingers without a keeper, and the next keeper starts a new one on the same data. Its clients reconnect and reconcile.
- When the master dies we let go of the lock, so that a new jqd may take over at once, and keep the server until its last
  client has left or `drain_timeout` is long over: the embedded server leaves last.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import time
from typing import Any, Final

from jobqueue.embedded import SocketPathTooLong, folder, socket_path
from supervisor import roles, server
from supervisor.channel import ChannelClosed
from supervisor.roles import Start

ALIVE_EVERY: Final = 0.5
LOCK_PATIENCE: Final = 2.0
SHUTDOWN_PATIENCE: Final = 10.0
LINGER_BEYOND_DRAIN: Final = 10.0
QUIET_LOOKS: Final = 3  # a client that is just reconnecting is not gone


class FolderTaken(RuntimeError):
    """Another jqd keeps a server in the folder."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        who = f"jqd (process {pid})" if pid else "jqd"
        super().__init__(f"another {who} keeps its server in {path}: stop it, or give redis.url another folder")


class ServerDied(RuntimeError):
    """The server ended before it answered."""

    def __init__(self, status: int, said: str) -> None:
        self.status = status
        self.said = said
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        super().__init__(f"the embedded server ended at its start ({how}): {said or 'it wrote nothing to its log'}")


def main() -> int:
    """0 when told to stop or the master is gone, 1 when the server died under us, 78 if it cannot be started at all."""
    start = roles.begin(None)
    settings = json.loads(start.settings)
    try:
        keeper = Keeper(start, settings)
        keeper.take_folder()
        keeper.start()
        roles.set_title("jqd: redis")  # while the server boots
        running = keeper.await_answer()
    except (FolderTaken, ServerDied, server.NoServer, SocketPathTooLong) as error:
        return roles.fail(start.channel, str(error))
    except OSError as error:
        return roles.fail(start.channel, f"the embedded server's folder cannot be used: {error}")
    return keeper.keep() if running else keeper.shut_down()


class Keeper:
    """The lock, the server and a connection to it."""

    def __init__(self, start: Start, settings: dict[str, Any]) -> None:
        self._channel = start.channel
        self._master = start.master_pid
        self._redis = settings["redis"]
        self._linger = settings["shutdown"]["drain_timeout"] + LINGER_BEYOND_DRAIN
        self._folder = os.path.abspath(folder(self._redis["url"]))
        self._socket = socket_path(self._redis["url"])
        self._binary = server.find_binary()
        self._lock = self._pid = self._pidfd = -1
        self._log_start = 0
        self._probe: server.Probe | None = None
        self._said = 0.0

    def take_folder(self) -> None:
        """The folder, ours alone, without a server in it. Raises FolderTaken, OSError."""
        os.makedirs(self._folder, 0o700, exist_ok=True)
        os.chmod(self._folder, 0o700)
        path = os.path.join(self._folder, "lock")
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    text = os.pread(self._lock, 32, 0).strip()
                    raise FolderTaken(self._folder, int(text) if text.isdigit() else None) from None
                time.sleep(0.01)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % self._master, 0)
        evict(self._folder, self._socket)

    def start(self) -> None:
        """Start the server; it does not answer yet."""
        log = os.path.join(self._folder, server.LOG_NAME)
        self._log_start = os.path.getsize(log) if os.path.exists(log) else 0
        self._pid = server.start(self._binary, server.arguments(self._redis), self._folder)
        self._pidfd = os.pidfd_open(self._pid)

    def await_answer(self) -> bool:
        """Until it answers, past the loading of its data, however long that takes; False: told to stop. Raises ServerDied."""
        while not self._answers():
            if self._ended(0):
                _, status = os.waitpid(self._pid, 0)
                raise ServerDied(status, self._log_tail())
            if self._wait(0.002) is not None:
                return False
        return self._say("ready")

    def keep(self) -> int:
        """Say that we are alive while the server is, until told to stop or the master is gone."""
        while not self._ended(0):
            match self._wait(ALIVE_EVERY):
                case "stop":
                    return self.shut_down()
                case "gone":
                    return self._outlive_master()
        _, status = os.waitpid(self._pid, 0)
        return self._complain(f"the embedded server ended ({os.waitstatus_to_exitcode(status)}): {self._log_tail()}")

    def shut_down(self) -> int:
        """Have the server write everything and leave; by force if it will not."""
        if self._probe is not None:
            try:
                self._probe.ask("SHUTDOWN")
            except (OSError, server.Refused) as error:
                if not isinstance(error, ConnectionError):
                    self._complain(f"the embedded server does not shut down: {error}")
        if not self._ended(0.0 if self._probe is None else SHUTDOWN_PATIENCE):
            _end(self._pid, self._pidfd)
        os.waitpid(self._pid, os.WNOHANG)
        return 0

    def _outlive_master(self) -> int:
        os.close(self._lock)
        quiet, deadline = 0, time.monotonic() + self._linger
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            try:
                quiet = quiet + 1 if self._probe is not None and self._probe.others() == 0 else 0
            except (OSError, server.Refused):
                quiet = 0
            if self._ended(0.1):
                return 0  # a new jqd has taken over
        return self.shut_down()

    def _answers(self) -> bool:
        try:
            if self._probe is None:
                self._probe = server.Probe(self._socket, 5.0)
            return self._probe.ask("PING") == "PONG"
        except server.Refused:
            return False  # loading
        except OSError:
            if self._probe is not None:
                self._probe.close()
            self._probe = None
            return False

    def _wait(self, timeout: float) -> str | None:
        """Wait for a word of the master or the server's end; "stop" or "gone" (the master is)."""
        if time.monotonic() - self._said >= ALIVE_EVERY and not self._say("alive"):
            return "gone"
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        poll.poll(timeout * 1000)
        for message, fds in self._channel.receive():
            for fd in fds:
                os.close(fd)
            if message["kind"] == "stop":
                return "stop"
        return "gone" if self._channel.closed else None

    def _say(self, kind: str) -> bool:
        self._said = time.monotonic()
        try:
            self._channel.flush()
            self._channel.send({"kind": kind})
        except ChannelClosed:
            return False
        return True

    def _complain(self, text: str) -> int:
        """To the master, who has a log; the code of a server that can be started again."""
        return roles.fail(self._channel, text, 1)

    def _ended(self, timeout: float) -> bool:
        return _readable(self._pidfd, timeout)

    def _log_tail(self) -> str:
        """The last lines this server wrote to its log."""
        try:
            with open(os.path.join(self._folder, server.LOG_NAME), "rb") as file:
                file.seek(self._log_start)
                return "; ".join(file.read().decode("utf-8", "replace").splitlines()[-3:])
        except OSError as error:
            return f"(its log cannot be read: {error})"


def evict(path: str, listening: str) -> None:
    """Shut down whatever server still runs in the folder, and wait until it is gone: its last act is to unlink the socket."""
    pid = server.running_in(path)
    try:
        probe = server.Probe(listening, SHUTDOWN_PATIENCE)
    except OSError:
        probe = None
    if probe is not None:
        pid = probe.peer or pid
        try:
            probe.ask("SHUTDOWN")
        except (OSError, server.Refused):
            pass  # closing the connection is its answer; whether it is gone is seen below
        probe.close()
    if pid is None:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    if not _readable(pidfd, SHUTDOWN_PATIENCE if probe is not None else 0.0):
        _end(pid, pidfd)
    os.close(pidfd)


def _end(pid: int, pidfd: int) -> None:
    """SIGTERM saves too; a server that does not even take that is beyond saving."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if _readable(pidfd, SHUTDOWN_PATIENCE):
            return


def _readable(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


if __name__ == "__main__":
    roles.run(main)
