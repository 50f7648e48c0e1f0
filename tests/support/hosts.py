"""Several hosts on one machine: each jqd in a pid namespace of its own, which gives it another host id and another table of processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import psutil

from tests.support.jqd import Jqd
from tests.support.waiting import eventually

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")


def can_separate() -> bool:
    """Whether this user may make pid namespaces."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


class Host(Jqd):
    """A jqd that is a host of its own. `crash` is a power cut, `freeze` what a suspended virtual machine is."""

    prefix = NAMESPACE

    @property
    def master(self) -> psutil.Process:
        """The master as this side sees it; `pid` is the one that made its namespace."""
        return eventually(lambda: psutil.Process(self.pid).children(), 5, what="the master")[0]

    def send(self, number: int) -> None:
        os.kill(self.master.pid, number)

    def crash(self) -> None:
        """Every process of the host at once: the kernel ends a namespace with its first process."""
        master = self.master
        left = self.children()
        master.kill()
        assert self.process is not None
        self.process.wait(10)
        psutil.wait_procs(left, 10)

    def freeze(self) -> None:
        for process in self.children():
            process.suspend()

    def thaw(self) -> None:
        for process in self.children():
            process.resume()

    @property
    def host(self) -> str:
        """Its id, as its log says it."""
        return str(self.events("started")[0]["host"])

    def close(self) -> None:
        self.thaw()
        if self.process is not None and self.process.poll() is None:
            for child in psutil.Process(self.pid).children():
                child.send_signal(signal.SIGKILL)
        super().close()
