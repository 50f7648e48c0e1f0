"""The real forkserver, with workers that do what these tests want: the pool's name says what."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from typing import Any

from supervisor import roles
from supervisor.channel import Channel
from supervisor.roles import forkserver
from supervisor.scoreboard import Scoreboard
from supervisor.spawn import WorkerSpec


def work(spec: WorkerSpec, settings: Any, registry: Any, board: Scoreboard, channel: Channel) -> int:
    match spec.pool:
        case "fails":
            raise RuntimeError("cannot open the shop")
        case "exits":
            sys.exit(3)
        case "late":
            board.writer(spec.slot).hello(birth=spec.birth, pid=os.getpid(), starttime=1, generation=1, worker_id="x")
            raise RuntimeError("after hello")
        case "thread":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    channel.send(
        {
            "kind": "hello", "pid": os.getpid(), "birth": spec.birth, "parent": os.getppid(), "group": os.getpgid(0),
            "blocked": len(mask), "term": int(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL),
            "random": random.random(), "types": len(registry.types()) if hasattr(registry, "types") else 0,
            "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
            "sockets": [fd for fd in os.listdir("/proc/self/fd") if is_socket(fd)], "gc": spec.generation,
        }
    )  # fmt: skip
    if spec.pool == "forks":
        if os.fork() == 0:
            signal.pause()
        channel.send({"kind": "forked"})
    while not channel.closed:
        channel.wait(60)
        channel.receive()
    return 7


def is_socket(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except OSError:
        return False


if __name__ == "__main__":
    roles.run(lambda: forkserver.main(work))
