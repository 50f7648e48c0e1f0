"""One server, several hosts, a Sentinel group under faults: topology × fault × jobs × lost × settled twice × time to work again.

    python -m benchmarks.topologies [--only 'two hosts']          (Clusters: benchmarks.shards --faults)

A producer puts notes into six queues all the while. Lost: accepted and never run. Needs pid namespaces for several hosts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shards import QUEUES, Load, binary, processed
from tests.support.hosts import Host
from tests.support.jqd import HANDLERS, Jqd, job, nothing_waits, push
from tests.support.link import Link
from tests.support.sentinels import Group
from tests.support.servers import Server, debian_binary
from tests.support.waiting import eventually

POOL = {"name": "default", "processes": 2, "queues": QUEUES}
CUT_OFF = 16.0  # seconds: longer than a lease


@dataclass(slots=True)
class Scene:
    """`jqds`: all that work. `client`: of the server that counts in the end. `stack`: closes what was opened."""

    folder: Path
    stack: ExitStack
    jqds: list[Jqd] = field(default_factory=list)
    client: Any = None

    def server(self) -> Server:
        server = Server(binary(), self.folder / "server", "--appendonly", "yes")
        self.stack.callback(server.close)
        self.client = server.client()
        return server

    def jqd(self, url: str, kind: type[Jqd] = Jqd) -> Any:
        folder = self.folder / f"jqd{len(self.jqds)}"
        folder.mkdir()
        one = kind(folder, url, handlers=HANDLERS, pools=[POOL], start=False)
        self.stack.callback(one.close)
        self.jqds.append(one)
        one.start(wait=False)
        one.wait_ready(60)
        return one

    def names(self) -> list[str]:
        return [name for one in self.jqds for name in one.names("note")]


def again(who: Sequence[Jqd], since: float) -> float:
    """Seconds from then until one of them begins a job."""
    begun = eventually(lambda: [t for one in who for r in one.runs("note") if (t := float(r[3])) > since], 60)
    return min(begun) - since


Play = Callable[
    [Scene], tuple[str, Callable[[], float]]
]  # the producer's url, and the fault: seconds until it works again


def restart(scene: Scene) -> tuple[str, Callable[[], float]]:
    server = scene.server()
    one = scene.jqd(server.url)

    def fault() -> float:
        server.kill()
        time.sleep(1)
        server.start()
        scene.client = server.client()
        return again([one], time.monotonic())

    return server.url, fault


def black_hole(scene: Scene) -> tuple[str, Callable[[], float]]:
    server = scene.server()
    link = Link(server.socket_path)
    scene.stack.callback(link.close)
    one = scene.jqd(link.url)

    def fault() -> float:
        link.black_hole()
        time.sleep(4)
        link.heal()
        return again([one], time.monotonic())

    return server.url, fault


def host_dies(scene: Scene) -> tuple[str, Callable[[], float]]:
    """It works again when the jobs the dead host was running run elsewhere."""
    server = scene.server()
    dying, other = scene.jqd(server.url, Host), scene.jqd(server.url, Host)

    def fault() -> float:
        push(scene.client, *(job("sleep", {"name": f"long{n}", "seconds": 3}) for n in range(4)), queue=QUEUES[0])
        eventually(lambda: dying.runs("sleep"), 30)
        dying.crash()
        died, began = time.monotonic(), {r[1] for r in dying.runs("sleep")} - {r[1] for r in dying.runs("slept")}
        found = eventually(lambda: [r for r in other.runs("sleep") if r[1] in began and float(r[3]) > died], 60)
        return min(float(r[3]) for r in found) - died

    return server.url, fault


def host_cut_off(scene: Scene) -> tuple[str, Callable[[], float]]:
    server = scene.server()
    link = Link(server.socket_path)
    scene.stack.callback(link.close)
    cut, _ = scene.jqd(link.url, Host), scene.jqd(server.url, Host)

    def fault() -> float:
        link.black_hole()
        time.sleep(CUT_OFF)
        link.heal()
        return again([cut], time.monotonic())

    return server.url, fault


def master_changes(scene: Scene) -> tuple[str, Callable[[], float]]:
    sentinel = debian_binary()
    assert sentinel is not None, "redis-server is not installed"
    group = Group(binary(), sentinel, scene.folder)
    scene.stack.callback(group.close)
    one, before = scene.jqd(group.url), group.port

    def fault() -> float:
        group.master.kill()
        eventually(lambda: group.promoted(before), 30, every=0.01)
        promoted = time.monotonic()
        seconds = again([one], promoted)
        scene.client = eventually(lambda: group.port != before and group.master).client()
        return seconds

    return group.url, fault


PLAYS: list[tuple[str, str, Play]] = [
    ("one server", "kill -9, back from its AOF after 1 s", restart),
    ("one server", "the network swallows everything for 4 s", black_hole),
    ("two hosts", "power cut of one: its running jobs run elsewhere", host_dies),
    ("two hosts", f"one cut off for {CUT_OFF:.0f} s (longer than a lease): it works again", host_cut_off),
    ("Sentinel, 1 replica", "kill -9 of the master", master_changes),
]


def suffer(play: Play) -> tuple[int, int, int, int, float]:
    """(accepted, lost, ran more than once, settled more often than there were jobs, seconds)."""
    with tempfile.TemporaryDirectory(prefix="jq-") as folder, ExitStack() as stack:
        scene = Scene(Path(folder), stack)
        (scene.folder / "server").mkdir()
        url, fault = play(scene)
        load = Load(url)
        stack.callback(load.stop)
        time.sleep(1.5)
        seconds = fault()
        time.sleep(1)
        load.stop()
        eventually(lambda: nothing_waits(scene.client, QUEUES), 90)
        ran = Counter(scene.names())
        others = {name for one in scene.jqds for name in one.names("sleep")}
        lost = len(set(load.accepted) - set(ran))
        twice = sum(n > 1 for n in ran.values())
        return len(load.accepted), lost, twice, max(0, processed(scene.client) - len(ran) - len(others)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="topologies whose name begins so")
    args = parser.parse_args()
    print("| topology | fault | jobs | lost | ran twice | finalised twice | works again after |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for topology, what, play in PLAYS:
        if topology.startswith(args.only or ""):
            jobs, lost, twice, more, seconds = suffer(play)
            print(f"| {topology} | {what} | {jobs:,} | {lost} | {twice} | {more} | {seconds:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
