"""A running master with stub children, and what a test may do to it and ask it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

STUBS = Path(__file__).parent / "stubs"
ROOT = Path(__file__).parents[2]


class RunningMaster:
    """Started on construction. Files in `folder` tell the stubs what to do."""

    def __init__(self, folder: Path, terminal: int | None = None, **settings: Any) -> None:
        self.folder = folder
        self.config = folder / "settings.json"
        self.configure(**settings)
        path = os.pathsep.join([str(ROOT), str(STUBS)])
        self.log = (folder / "log").open("a")
        environment = {**os.environ, "PYTHONPATH": path, "JQD_STUB": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(STUBS / "run_master.py"), str(self.config)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL if terminal is None else terminal, stderr=self.log,
            preexec_fn=lambda: _own_session(terminal),
        )  # fmt: skip

    def configure(self, **settings: Any) -> None:
        pool = {"name": "default", "processes": 2, "queues": ["default"], **settings.pop("pool", {})}
        defaults: dict[str, Any] = {
            "pools": settings.pop("pools", [pool]),
            "redis": {"url": "redis://127.0.0.1:1"},
            "shutdown": {"drain_timeout": 5.0, "abort_grace": 0.3},
        }
        new = self.config.with_suffix(".new")
        new.write_text(json.dumps({**defaults, **settings}))
        new.rename(self.config)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if name in ("", line["event"])]

    def workers(self, generation: int = 0) -> dict[str, int]:
        """Ready and living workers: slot → pid."""
        living: dict[str, int] = {}
        for event in self.events():
            if event["event"] == "worker ready" and generation in (0, event["generation"]):
                living[event["slot"]] = event["pid"]
            elif event["event"] == "worker gone" and living.get(event["slot"]) == event["pid"]:
                del living[event["slot"]]
        return living

    def role(self, name: str) -> int:
        """Pid of the ready process of a role, or 0."""
        pid = 0
        for event in self.events():
            if event.get("role") == name:
                pid = event["pid"] if event["event"] == "role ready" else pid
                if event["event"] == "role gone" and event["pid"] == pid:
                    pid = 0
        return pid

    def told(self, kind: str = "") -> list[dict[str, Any]]:
        """What the stub steward was told."""
        file = self.folder / "steward.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [message for line in lines if kind in ("", (message := json.loads(line))["kind"])]

    def status(self) -> dict[str, Any]:
        """What the stub exporter was told last."""
        file = self.folder / "status.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def job(self, pid: int, soft: float = 0, hard: float = 0, ending: str = "obey") -> None:
        order = self.folder / "order.new"
        order.write_text(f"{soft} {hard} {ending}")
        order.rename(self.folder / f"job-{pid}")
        if ending != "done":
            eventually((self.folder / f"running-{pid}").exists)

    def await_ready(self, count: int = 2) -> dict[str, int]:
        def all_there() -> dict[str, int]:
            assert self.process.poll() is None, self.text()
            workers = self.workers()
            return workers if len(workers) == count else {}

        return eventually(all_there, 20, what=f"{count} workers ready")

    def await_event(self, name: str, count: int = 1, timeout: float = 10) -> dict[str, Any]:
        return eventually(lambda: self.events(name)[count - 1 :], timeout, what=f"event {name!r}")[0]

    def replaced(self, slot: str, pid: int) -> dict[str, int]:
        """The workers, once another than `pid` is ready in the slot."""

        def is_replaced() -> dict[str, int]:
            workers = self.workers()
            return workers if workers.get(slot, pid) != pid else {}

        return eventually(is_replaced, what=f"{slot} replaced")

    def await_role(self, name: str, *, other_than: tuple[int, ...] = ()) -> int:
        """The pid of a ready role that is none of these."""
        return eventually(lambda: self.role(name) not in (0, *other_than) and self.role(name), 15, what=name)

    def wait(self, timeout: float = 30) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not gone after {timeout:g} s: {self.text()}") from None

    def text(self) -> str:
        return (self.folder / "log").read_text()

    def end(self) -> None:
        """However the test left it: no process stays."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGQUIT)
            try:
                self.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def _own_session(terminal: int | None) -> None:
    signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # ignored if these tests run under nohup, which means something to a master
    os.setsid()
    if terminal is not None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
