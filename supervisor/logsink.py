"""Where log lines go: standard error, or a file opened for appending. Each line is one write; nothing here raises or waits.

A line that cannot be written now (disk full, closed, a pipe nobody reads) is lost and counted; the next that can be is
preceded by the number lost. Used by `supervisor.logs` alone.
"""

from __future__ import annotations

import os
import select
import stat
import time
from typing import Final

STDERR: Final = 2
PIPE_LIMIT: Final = (
    4096  # PIPE_BUF: up to here a write to a pipe is not mixed with another's, and does not block after POLLOUT
)
CHECK_EVERY: Final = 1.0


class Sink:
    """`path` None is standard error, and so is a file that cannot be opened: `error` then says why."""

    def __init__(self, path: str | None) -> None:
        self._path, self._own, self._fd = path, -1, STDERR
        self.error: str | None = None
        self.lost = 0
        self.limit: int | None = None
        self._polled = False
        self._checked = time.monotonic()
        self._open()

    def is_terminal(self) -> bool:
        return os.isatty(self._fd)

    def reopen(self) -> None:
        """Follow the path, not the file. Keeps the old file if the new one cannot be opened."""
        if self._path is not None:
            self._open()

    def close(self) -> None:
        if self._own >= 0:
            os.close(self._own)
        self._own, self._fd = -1, STDERR

    def write(self, line: bytes) -> None:
        """One line, its line feed included."""
        if self._own >= 0 and time.monotonic() - self._checked > CHECK_EVERY:
            self._follow()
        if self.lost and self._send(b'{"level":"warning","event":"log lines were lost","lost":%d}\n' % self.lost):
            self.lost = 0
        if not self._send(line):
            self.lost += 1

    def _send(self, line: bytes) -> bool:
        try:
            while line:
                if self._polled and not self._writable():
                    return False
                line = line[os.write(self._fd, line[: self.limit]) :]
        except OSError:
            return False
        return True

    def _writable(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def _open(self) -> None:
        self._checked = time.monotonic()
        self.error = None
        if self._path is not None:
            try:
                fd = os.open(
                    self._path,
                    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK,
                    0o640,
                )
            except OSError as error:
                self.error = error.strerror or str(error)
            else:
                self.close()
                self._own = self._fd = fd
        try:
            mode = os.fstat(self._fd).st_mode
        except OSError:
            return
        self._polled = not stat.S_ISREG(mode)
        self.limit = PIPE_LIMIT if stat.S_ISFIFO(mode) else None

    def _follow(self) -> None:
        """Notice that the file was moved or removed (logrotate), also in processes that no signal tells."""
        self._checked = time.monotonic()
        try:
            ours, there = os.fstat(self._own), os.stat(self._path or "")
            moved = (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)
        except OSError:
            moved = True
        if moved:
            self._open()
