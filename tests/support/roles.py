"""Standing in for the master: start a role, speak to it, collect it. The role itself is the real one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from supervisor import channel as channels
from supervisor import prctl, spawn
from supervisor.channel import Channel
from supervisor.scoreboard import Scoreboard
from supervisor.settings import Pool, Settings, encode


class Role:
    """A started role: what it said, in `said`, and what came with it, in `fds`."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid, self.channel = pid, channel
        self.said: list[dict[str, Any]] = []
        self.fds: list[int] = []
        self.death: spawn.Death | None = None

    def hear(self, kind: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait for the next message of this kind (others are kept in `said`)."""
        deadline = time.monotonic() + timeout
        while True:
            for message, fds in self.channel.receive():
                self.said.append(message)
                self.fds += fds
            for message in self.said:
                if message["kind"] == kind:
                    self.said.remove(message)
                    return message
            assert not self.channel.closed, f"gone without a word of {kind!r}; said {self.said}"
            assert time.monotonic() < deadline, f"no {kind!r} in {timeout:g} s; said {self.said}"
            self.channel.wait(0.05)

    def ended(self, timeout: float = 20.0) -> spawn.Death:
        """Wait for its death."""
        deadline = time.monotonic() + timeout
        while self.death is None:
            self.death = spawn.collect(self.pid)
            assert time.monotonic() < deadline, f"process {self.pid} lives"
            if self.death is None:
                time.sleep(0.002)
        return self.death

    def close(self) -> None:
        if self.death is None:
            spawn.kill_group(self.pid, signal.SIGKILL)
            self.ended()
        self.channel.close()
        while self.fds:
            os.close(self.fds.pop())


def settings(**changes: Any) -> Settings:
    return Settings(**{"pools": (Pool(name="default", queues=("default",)),), **changes})


def start_role(module: str, board: Scoreboard, conf: Settings, *, generation: int = 1, **env: str) -> Role:
    """Start the module as the master would, and give it its first message."""
    ours, theirs = channels.pair()
    with theirs:
        pid = spawn.exec_module(
            [module],
            {channels.CHANNEL_FD: theirs.fileno(), channels.BOARD_FD: board.fd},
            {channels.MASTER_PID: str(os.getpid()), **env},
            own_session=True,
        )
    memory = channels.memfd(encode(conf), "settings")
    ours.send({"kind": "start", "generation": generation, "host": "01234567", "nonce": "abcdef"}, [memory])
    os.close(memory)
    return Role(pid, ours)


@contextmanager
def subreaper() -> Iterator[None]:
    """This process takes orphans, as the master does."""
    prctl.become_subreaper()
    try:
        yield
    finally:
        prctl._prctl(36, 0)
        while (pid := spawn.next_death()) is not None:
            spawn.collect(pid)
