"""How an idle worker waits, on a real server: it neither spins nor sleeps where a call cannot be parked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from jobqueue.redis.session import WorkerSession
from jobqueue.settings import RedisSettings
from tests.support.servers import Server


@pytest.fixture
def bell() -> Iterator[tuple[int, int]]:
    """A pipe that nobody rings."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def waits(server: Server, bell: tuple[int, int], seconds: float) -> tuple[int, list[str]]:
    """How often a worker of two queues came back to look, and the queues whose jobs ended the last wait."""
    session = WorkerSession(RedisSettings(url=server.url), {}, "w", ("a", "b"), bell[0], lambda: None)
    try:
        end, n, woken = time.monotonic() + seconds, 0, list[str]()
        while time.monotonic() < end and not woken:
            woken = list(session.wait(["a", "b"], 10.0))
            session.port.transport.call("PING")  # stands for the trip: it carries the UNBLOCKs
            session.settled()
            n += 1
        return n, woken
    finally:
        session.close()


def test_a_full_server_that_refuses_parked_calls_is_looked_at_some_times_a_second(
    new_server: Callable[..., Server], bell: tuple[int, int]
) -> None:
    server = new_server(maxmemory="2mb")
    client = server.client()
    client.config_set("maxmemory", 1)
    looks, woken = waits(server, bell, 1.0)
    assert not woken
    assert 3 <= looks <= 40, "some, and not thousands"


def test_a_job_ends_a_wait_at_once(new_server: Callable[..., Server], bell: tuple[int, int]) -> None:
    server = new_server()
    server.client().lpush("jq:{b}:pending", "x")
    start = time.monotonic()
    assert waits(server, bell, 10.0) == (1, ["b"])
    assert time.monotonic() - start < 5
    assert server.client().lrange("jq:{b}:next", 0, -1) == [b"x"]
