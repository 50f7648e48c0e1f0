"""A whole jqd as users start it: real file, real processes, a real Redis. Tests ask the process table and Redis, never its inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import redis
import yaml

from tests.support.mortal import die_with_parent
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
HANDLERS = '''
"""Handlers of the tests: each run appends one line (type, argument, pid, monotonic time) to the file `runs`."""
import os, time
from jobqueue import handler, Job, SkipRetry, RetryAfter, Discard, JobTimeout

def note(what, name, more=""):
    fd = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{what} {name} {os.getpid()} {time.monotonic():.6f} {more}\\n".encode())
    os.close(fd)

@handler("noop")
def noop(): pass

@handler("note")
def do_note(name: str): note("note", name)

@handler("sleep")
def sleep(name: str, seconds: float, job: Job, killed: bool = False):
    """`killed`: it is to be killed, so its first run stays until it is."""
    first = killed and not (os.path.exists("runs") and f"sleep {name} " in open("runs").read())
    note("sleep", name, f"{job.attempt}/{job.crashes}")
    end = time.monotonic() + (60 if first else seconds)
    while time.monotonic() < end: time.sleep(min(0.005, seconds))
    note("slept", name, f"{job.attempt}/{job.crashes}")

@handler("fail", backoff={"base": "50ms", "max": "50ms", "jitter": "none"})
def fail(name: str):
    note("fail", name)
    raise ValueError("no")

@handler("skip")
def skip(name: str):
    note("skip", name)
    raise SkipRetry("never")

@handler("discard")
def discard(name: str):
    note("discard", name)
    raise Discard("unwanted")

@handler("raw")
def raw(body: bytes): note("raw", body.decode())
'''


class Jqd:
    """`python -m supervisor.cli -c jqd.yaml` in a folder of its own. `url`: its Redis."""

    prefix: Sequence[str] = ()  # what to start it through

    extra_path: tuple[str, ...] = ()  # folders on the PYTHONPATH of all its processes

    def __init__(self, folder: Path, url: str, *, handlers: str = HANDLERS, start: bool = True, **config: Any) -> None:
        self.folder, self.url = folder, url
        (folder / "handlers.py").write_text(handlers)
        self.configure(**config)
        self.environment: dict[str, str] = {}
        """Variables of the process beside the inherited ones."""
        self.process: subprocess.Popen[bytes] | None = None
        if start:
            self.start()

    def configure(self, **config: Any) -> None:
        """Write jqd.yaml; sections given replace the defaults."""
        self.config: dict[str, Any] = {
            "redis": {"url": self.url},
            "handlers": ["handlers.py", "jobqueue.demo"],
            "pools": [{"name": "default", "processes": 2, "queues": ["default"]}],
            "http": {"listen": None},
            "shutdown": {"drain_timeout": "10s"},
            "log": {"format": "json"},
            **config,
        }
        self.write(yaml.safe_dump(self.config))

    def write(self, text: str) -> None:
        path = self.folder / "jqd.yaml"
        (self.folder / "jqd.new").write_text(text)
        (self.folder / "jqd.new").rename(path)

    def start(self, *args: str, wait: bool = True) -> None:
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "REDIS_URL", "JQ_REDIS_ADDR")
        }
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *self.extra_path])
        with (self.folder / "log").open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, *os.environ.get("JQD_TEST_RUN", "-m supervisor.cli -c").split(), "jqd.yaml", *args],
                cwd=self.folder, env=environment | self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        if wait:
            self.wait_ready()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def wait_ready(self, timeout: float = 20) -> None:
        """Until as many workers are idle or at work as the file wants."""
        want = sum(pool["processes"] for pool in self.config["pools"])

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"jqd ended with {self.process.returncode}: {self.tail()}"
            return len([t for t in self.titles("worker") if "starting" not in t]) >= want

        try:
            eventually(ready, timeout, what="all workers ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.titles()}\n{self.tail()}") from None

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def titled(self, what: str = "") -> list[tuple[psutil.Process, str]]:
        """Living processes of this jqd with their titles, those whose role begins with `what`."""
        found = []
        for process in self.children():
            try:
                title = " ".join(process.cmdline()).strip()
            except psutil.Error:
                continue
            if title.startswith(f"jqd: {what}"):
                found.append((process, title))
        return found

    def titles(self, what: str = "") -> list[str]:
        return [title for _, title in self.titled(what)]

    def pids(self, what: str) -> list[int]:
        return [process.pid for process, _ in self.titled(what)]

    def pid_of(self, what: str) -> int:
        return eventually(lambda: self.pids(what), 10, what=f"a process {what}")[0]

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill_tree(self) -> None:
        """SIGKILL to everything at once, as a power cut would."""
        tree = [psutil.Process(self.pid), *self.children()]
        for process in tree:
            process.suspend()
        for process in tree:
            process.kill()
        assert self.process is not None
        self.process.wait(10)
        psutil.wait_procs(tree, 10)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Signal, wait, exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.send(number)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"jqd did not end in {timeout:g} s: {self.titles()}\n{self.tail()}") from None
        return code

    def close(self) -> None:
        """For fixtures: nothing of it survives the test."""
        left = self.children()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def text(self) -> str:
        """The log since the last start."""
        return (self.folder / "log").read_bytes()[self.log_start :].decode("utf-8", "replace")

    def tail(self) -> str:
        return self.text()[-6000:]

    def events(self, word: str) -> list[dict[str, Any]]:
        """Log lines whose event contains `word`."""
        lines = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [line for line in lines if word in line.get("event", "")]

    def runs(self, what: str = "") -> list[list[str]]:
        """Lines the handlers wrote: [type, name, pid, time, more]; of one type, or all."""
        path = self.folder / "runs"
        lines = [line.split(" ") for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if what in ("", line[0])]

    def names(self, what: str) -> list[str]:
        return [line[1] for line in self.runs(what)]


def job(type_: str, payload: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """An envelope as any program would write it."""
    return json.dumps({"type": type_, "payload": payload or {}, **fields}).encode()


def push(client: redis.Redis[Any], *jobs: bytes, queue: str = "default") -> None:
    client.lpush(f"jq:{{{queue}}}:pending", *jobs)


def stats(client: redis.Redis[Any], queue: str = "default") -> dict[str, int]:
    return {k.decode(): int(v) for k, v in client.hgetall(f"jq:{{{queue}}}:stats").items()}


def leftovers(client: redis.Redis[Any]) -> dict[str, int]:
    """Keys that must be empty when nothing runs: processing lists, next lists, registrations, leases."""
    found = {}
    for key in client.keys("*"):
        name = key.decode("utf-8", "replace")
        if ":processing:" in name or name.endswith(":next"):
            found[name] = client.llen(key)
        elif name.endswith((":workers", ":leases")):
            found[name] = 1
    return found


def nothing_waits(client: redis.Redis[Any], queues: Sequence[str] = ("default",)) -> bool:
    lengths = [client.llen(f"jq:{{{q}}}:{part}") for q in queues for part in ("pending", "next")]
    lengths += [client.zcard(f"jq:{{{q}}}:scheduled") for q in queues]
    return not any(lengths) and not any(client.llen(k) for k in client.keys("*:processing:*"))


def idle_for(seconds: float) -> None:
    """Let the world go on for a while, where the promise is that nothing happens."""
    time.sleep(seconds)
