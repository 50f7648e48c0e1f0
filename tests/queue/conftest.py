"""`backend`: every test that takes it runs once on each store there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.queue.backends import Backend, MemoryBackend, RedisBackend
from tests.support.servers import Server

SETTINGS: dict[str, Any] = {}


@pytest.fixture(params=["memory", "fakeredis", "embedded", "debian"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """An empty store: plain dicts, Lua in Python, the embedded Valkey, the system's Redis."""
    if request.param == "memory":
        yield MemoryBackend(SETTINGS)
    elif request.param == "fakeredis":
        fakeredis = pytest.importorskip("fakeredis")
        pytest.importorskip("lupa")
        server = fakeredis.FakeServer()
        yield RedisBackend(lambda: fakeredis.FakeStrictRedis(server=server), SETTINGS, (6, 2, 0))
    else:
        yield from _real(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture(params=["fakeredis", "embedded", "debian"])
def redis_backend(request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
    """The same without the plain dicts: for promises about keys."""
    if request.param == "fakeredis":
        fakeredis = pytest.importorskip("fakeredis")
        pytest.importorskip("lupa")
        server = fakeredis.FakeServer()
        yield RedisBackend(lambda: fakeredis.FakeStrictRedis(server=server), SETTINGS, (6, 2, 0))
    else:
        yield from _real(request.getfixturevalue(f"{request.param}_server"))


def _real(server: Server) -> Iterator[RedisBackend]:
    yield RedisBackend(server.client, SETTINGS, (7, 0, 0))
