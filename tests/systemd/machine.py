"""A throwaway machine booted by real systemd, in namespaces: what the tests of the units run on.

Not a container: the file system is this machine's, copied on write, and all that is written is thrown away (boot.sh). It
needs root, util-linux, Debian's package systemd and a cgroup2 hierarchy to write in; `why_not` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
HIERARCHIES = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
TOOLS = ("unshare", "nsenter", "mount", "systemctl", "journalctl", "ip")


def hierarchy() -> Path | None:
    """Where a cgroup2 group of our own can be made."""
    return next(
        (path for path in HIERARCHIES if (path / "cgroup.controllers").exists() and os.access(path, os.W_OK)), None
    )


def why_not() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting systemd in namespaces needs root"
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    if not SYSTEMD.exists():
        return "systemd is not installed"
    if hierarchy() is None:
        return "there is no cgroup2 hierarchy to write in"
    if sys.prefix == sys.base_prefix:
        return "this Python is not in a virtual environment"
    probe = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "true"]
    if subprocess.run(probe, capture_output=True).returncode != 0:
        return "namespaces cannot be made here"
    return None


class Machine:
    """Booted by the constructor; `run` runs a command inside; `close` ends it and leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        base = hierarchy()
        assert base is not None
        self.folder = folder
        self.cgroup = base / f"jqd-test-{os.getpid()}-{time.monotonic_ns()}"
        self.cgroup.mkdir()
        scratch = folder / "machine"
        scratch.mkdir()
        boot = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
        boot += ["bash", str(ROOT / "tests/systemd/boot.sh"), str(scratch), str(ROOT), sys.prefix, sys.base_prefix]
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        with (folder / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", enter, str(self.cgroup), *boot],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self.init = eventually(self._find_init, 20, what="the first process")
            eventually(
                lambda: self.run("systemctl", "is-active", "-q", "machine.target", check=False).returncode == 0, 20
            )
        except AssertionError as error:
            self.close()
            raise AssertionError(f"systemd did not boot: {error}\n{(folder / 'boot.log').read_text()}") from None

    def _find_init(self) -> int | None:
        assert self._process.poll() is None, (self.folder / "boot.log").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return None

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside, in /opt/jqd, as root."""
        enter = ["nsenter", "-t", str(self.init), "-a", "env", "-i"]
        enter += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0", "LANG=C.UTF-8"]
        cwd = ["bash", "-c", 'cd /opt/jqd && exec "$@"', "bash"]
        done = subprocess.run(
            [*enter, *cwd, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def path(self, inside: str) -> Path:
        """A file of the machine, as the test can read and write it."""
        return Path(f"/proc/{self.init}/root{inside}")

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def close(self) -> None:
        """The end of every process inside, then of the control group."""
        for pid in [getattr(self, "init", None), self._process.pid]:
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self._process.wait(10)
        eventually(self._remove_cgroup, 10, what="the end of the control group")

    def _remove_cgroup(self) -> bool:
        for folder in sorted(self.cgroup.rglob("*"), reverse=True):
            if folder.is_dir():
                try:
                    folder.rmdir()
                except OSError:
                    return False
        try:
            self.cgroup.rmdir()
        except OSError:
            return not self.cgroup.exists()
        return True
