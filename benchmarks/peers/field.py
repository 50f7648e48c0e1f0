"""One peer at work: its server, its producer as a process, its workers as processes, and what their jobs wrote.

Every peer gets the same: a server of its own on TCP loopback with `appendonly yes`, a new folder, two worker processes.
"""

from __future__ import annotations

import json
import mmap
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.ground import Ground, ground
from benchmarks.peers.install import folder
from benchmarks.peers.peers import Peer
from tests.support.jqd import ROOT

APPS = Path(__file__).parent / "apps"
SLOTS, OF_NODE = 131_072, 16
CONFIG = """
redis: {{url: "{url}"}}
handlers: [{app}.py]
pools: [{{name: default, processes: 2, queues: [default], claim_max: {claim_max}}}]
http: {{listen: null}}
log: {{format: json, level: warning}}
"""


class GaveUp(RuntimeError):
    """A peer did not do in time what was waited for."""


class Field:
    """`counted`, `lines`: what jobs did. `produce`: runs the peer's producer to its end."""

    def __init__(self, peer: Peer, place: Ground) -> None:
        self.peer, self.folder = peer, place.folder
        self.url = place.url(tcp=True)
        (self.folder / "slots").touch()
        with (self.folder / "counts").open("wb") as file:
            file.truncate(SLOTS * 8)
        with (self.folder / "counts").open("r+b") as file:
            self._counts = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        if peer.ours:
            claim_max = 1 if peer.name.endswith("1") else 64
            (self.folder / "jqd.yaml").write_text(CONFIG.format(url=self.url, app=APPS / peer.app, claim_max=claim_max))
        self.programs: list[subprocess.Popen[bytes]] = []

    def counted(self) -> int:
        taken = (self.folder / "slots").stat().st_size
        return sum(self._counts[:taken]) + sum(self._counts[-OF_NODE:])

    def lines(self, name: str) -> list[list[str]]:
        path = self.folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def produce(self, action: str, n: int) -> float | None:
        """Seconds the calls took; None if the peer has no such call."""
        python = sys.executable if self.peer.ours else str(folder(self.peer) / "bin" / "python")
        command = [python, str(APPS / "run.py"), self.peer.app, action, str(n)]
        if self.peer.node:
            command = ["node", str(APPS / "bullmq_run.js"), action, str(n)]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, timeout=240
        )
        if done.returncode:
            raise GaveUp(f"producer: {done.stderr.strip()[-400:]}")
        seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
        return None if seconds is None else float(seconds)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Two worker processes, started; what they had forked is gone at the end."""
        log = (self.folder / "log").open("ab")
        words = {
            "bin": str(folder(self.peer) / "bin"), "python": sys.executable, "apps": str(APPS), "url": self.url,
        }  # fmt: skip
        self.programs = [
            subprocess.Popen(
                [word.format(**words) for word in shlex.split(command)], cwd=self.folder, env=self._environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            ) for command in self.peer.workers
        ]  # fmt: skip
        try:
            yield
        finally:
            log.close()
            self._end()

    def tree(self) -> list[psutil.Process]:
        found = []
        for program in self.programs:
            try:
                top = psutil.Process(program.pid)
                found += [top, *top.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def until(self, what: str, seconds: float, condition: Any) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                log = (self.folder / "log").read_text(errors="replace").strip()[-400:]
                raise GaveUp(f"{what} not within {seconds:g} s; {log}")
            time.sleep(0.002)

    def _environment(self) -> dict[str, str]:
        path = [str(APPS), *([str(ROOT)] if self.peer.ours else [])]
        return os.environ | {
            "BENCH_URL": self.url, "BENCH_DIR": str(self.folder), "PYTHONPATH": os.pathsep.join(path),
            "NODE_PATH": str(folder(self.peer) / "node_modules"), "PYTHONDONTWRITEBYTECODE": "",
        }  # fmt: skip

    def _end(self) -> None:
        tree = self.tree()
        for program in self.programs:
            program.terminate()
        _, left = psutil.wait_procs(tree, 6)
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        for program in self.programs:
            program.wait(10)


@contextmanager
def field(peer: Peer) -> Iterator[Field]:
    with ground() as place:
        yield Field(peer, place)
