"""One jqd of a soak as a host of its own: kept running, hurt, started again. Not the plan and not the verdict
(`tests.fault.soak`).

Hosts beyond the first live in a PID namespace of their own, which is what makes them another host for jqd: only their
leases tell the others that they are gone. Their processes have other numbers inside; what handlers write is made
distinct by JQD_FAULT_PID_BASE.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import psutil

from tests.fault.stage import HANDLERS
from tests.support.jqd import Jqd

BASE: Final = 100_000_000  # process numbers of one life of one host are below this
KILLED: Final = frozenset({-9, 137, 1})  # 1: `unshare` cannot end as its child did
ENTER: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")


class Host(Jqd):
    """`number` 0 is the first. `strange`: ends nobody asked for."""

    def __init__(self, number: int, folder: Path, url: str, **config: Any) -> None:
        self.number, self.lives = number, 0
        self.prefix = ENTER if number else ()
        self.strange: list[str] = []
        self.exits: list[int] = []
        self._ordered: set[int] = set()
        folder.mkdir()
        super().__init__(folder, url, handlers=HANDLERS.read_text(), start=False, **config)

    @property
    def pid(self) -> int:
        """The master; its starter while it is not there yet."""
        assert self.process is not None
        if not self.prefix:
            return self.process.pid
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                return child.pid
        return self.process.pid

    @property
    def base(self) -> int:
        return (self.lives * 8 + self.number) * BASE if self.number else 0

    def begin(self) -> None:
        """Start; nobody waits for it."""
        self.lives += 1
        self._ordered = set()
        os.environ["JQD_FAULT_PID_BASE"] = str(self.base)
        self.start(wait=False)

    def tend(self) -> None:
        """If it has ended, note how, and start it again."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        self.exits.append(code)
        if code not in self._ordered:
            self.strange.append(f"host {self.number} ended with {code}: {self.tail()[-1500:]}")
        self.begin()

    def known_as(self, pid: int) -> int:
        """How handlers call the process."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("NSpid:"):
                    return int(line.split()[-1]) + self.base
        return pid

    def order(self, number: int) -> None:
        """A signal to the master that ends it; the exit codes that go with it."""
        self._ordered |= KILLED if number == signal.SIGKILL else {0, 75}
        self.signal(self.pid, number)

    @staticmethod
    def signal(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def everything(self) -> list[int]:
        """All its processes, the master first."""
        return [self.pid, *(process.pid for process in self.children())]

    def thaw(self) -> None:
        for pid in self.everything():
            self.signal(pid, signal.SIGCONT)

    def finish(self, timeout: float) -> None:
        """TERM and the end of it, which must be a good one."""
        assert self.process is not None
        if self.process.poll() is None:
            self.order(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.process.poll() != 0:
            self.strange.append(
                f"host {self.number}: the last TERM ended with {self.process.poll()}: {self.tail()[-1500:]}"
            )
