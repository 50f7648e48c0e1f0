"""Where the metric files of one master live: a private folder in memory, made at its start. No prometheus_client here.

Not the files themselves (`supervisor.metrics`). The master calls `prepare_directory` once, before it has children, and
hands the path to them in JQD_METRICS_DIR; a reload keeps it, so counters live as long as the master does.

The folder is on tmpfs where there is one: counts cost no disk writes. It is named after the master (pid namespace, pid), so two
masters never share it, and a master removes what dead ones of its kind left behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "JQD_METRICS_DIR"
_PREFIX: Final = "jqd-metrics-"
_NEED_BASE: Final = 2 << 20
_NEED_SLOT: Final = 256 << 10


class NoMetricsDirectory(OSError):
    """No folder can hold the metric files: each candidate with what is wrong with it."""

    def __init__(self, causes: list[str]) -> None:
        self.causes = causes
        super().__init__(
            f"no folder for metric files: {'; '.join(causes)}. Make room, or set RUNTIME_DIRECTORY to a folder in memory"
        )


def candidates(environ: Mapping[str, str], temporary: str) -> list[str]:
    """Folders to try, best first: systemd's, the session's, shared memory, the temporary folder."""
    named = [environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], environ.get("XDG_RUNTIME_DIR", "")]
    return list(dict.fromkeys(place for place in (*named, "/dev/shm", temporary) if place.startswith("/")))


def directory(base: str, namespace: int, pid: int) -> str:
    """The folder of the master `pid` in its pid namespace."""
    return f"{base.rstrip('/')}/{_PREFIX}{namespace}-{pid}"


def prepare_directory(slots: int = 64, environ: Mapping[str, str] = os.environ) -> str:
    """Make this master's folder, empty and private (0700), where there is room for `slots` workers; return its path.

    Raises NoMetricsDirectory, which names every place tried and its cause.
    """
    need, causes = _NEED_BASE + slots * _NEED_SLOT, []
    namespace = os.stat("/proc/self/ns/pid").st_ino
    for base in candidates(environ, tempfile.gettempdir()):
        try:
            _sweep(base, namespace)
            room = os.statvfs(base)
            if room.f_bavail * room.f_frsize < need:
                causes.append(f"{base} has {room.f_bavail * room.f_frsize >> 10} KiB free of {need >> 10} KiB needed")
            else:
                return _make(directory(base, namespace, os.getpid()))
        except OSError as error:
            causes.append(f"{base}: {error.strerror or error}")
    raise NoMetricsDirectory(causes)


def remove_directory(path: str) -> None:
    """Remove a folder made by `prepare_directory`. For the master, after its last child is gone. Never raises."""
    if os.path.basename(path).startswith(_PREFIX):
        shutil.rmtree(path, ignore_errors=True)


def _make(path: str) -> str:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    # In a folder everybody may write to, somebody else's folder or link may already have this name.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        return tempfile.mkdtemp(prefix=f"{os.path.basename(path)}-", dir=os.path.dirname(path))
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
    return path


def _sweep(base: str, namespace: int) -> None:
    """Remove what masters of this user and pid namespace left who no longer live: a SIGKILL leaves files behind."""
    mine = f"{_PREFIX}{namespace}-"
    for name in os.listdir(base):
        pid = name.removeprefix(mine).partition("-")[0]
        if not name.startswith(mine) or not pid.isdigit() or os.path.exists(f"/proc/{pid}"):
            continue
        path = os.path.join(base, name)
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)
