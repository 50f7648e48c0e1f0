"""The pidfile: one jqd a file, by a lock the kernel drops when its owner dies, however it dies.

Not trusted for what it says: a stale number in it means nothing, only the lock counts. Called by the master.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class PidfileLocked(RuntimeError):
    """Another jqd runs with this pidfile."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{path} is locked by {who}: stop that jqd, or give this one another pidfile")


class Pidfile:
    """A locked file with our pid in it. The lock is close-on-exec, so no child can keep it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fd: int | None = None
        self._owner = 0

    def acquire(self) -> None:
        """Take the file, also over from an owner that is dead. Raises PidfileLocked, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = _pid_in(fd)
                os.close(fd)
                raise PidfileLocked(self.path, pid) from None
            if self._is_ours(fd):
                break
            os.close(fd)  # the last owner unlinked it between our open and our lock
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd, self._owner = fd, os.getpid()

    def release(self) -> None:
        """Remove the file and drop the lock, if this very process took it; a forked child does nothing here."""
        if self._fd is None or self._owner != os.getpid():
            return
        if self._is_ours(self._fd):
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._fd)
        self._fd = None

    def _is_ours(self, fd: int) -> bool:
        try:
            there, here = os.stat(self.path), os.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _pid_in(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
