"""`backend`: every test that takes it runs once on each store there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobqueue.redis.connect import Endpoint
from jobqueue.redis.scripts import parse_version
from jobqueue.redis.wire import Wire
from tests.queue.backends import Backend, MemoryBackend, RedisBackend
from tests.support.servers import Server, further_binaries

REDIS = ["fakeredis", "embedded", "wire", "debian", *(further_binaries() or ["further"])]


@pytest.fixture(params=["memory", *REDIS])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """An empty store: plain dicts; scripts for old servers, run in Python; the embedded Valkey, through redis-py and through our own
    connections; the system's Redis; whatever further servers `make servers` has brought."""
    if request.param == "memory":
        yield MemoryBackend({})
    else:
        yield from _redis(request)


@pytest.fixture(params=REDIS)
def redis_backend(request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
    """The same without the plain dicts: for promises about keys."""
    yield from _redis(request)


def _redis(request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
    match request.param:
        case "fakeredis":
            fakeredis = pytest.importorskip("fakeredis")
            pytest.importorskip("lupa")
            server = fakeredis.FakeServer()
            yield RedisBackend(lambda: fakeredis.FakeStrictRedis(server=server), {}, (6, 2, 0))
        case "wire":
            yield from _wired(request.getfixturevalue("embedded_server"))
        case "embedded" | "debian" as name:
            yield RedisBackend(request.getfixturevalue(f"{name}_server").client, {}, (7, 0, 0))
        case "further":
            pytest.skip("no further server is installed: make servers")
        case name:
            server = request.getfixturevalue("further_server")(name)
            yield RedisBackend(server.client, {}, parse_version(name.partition("-")[2]))


def _wired(server: Server) -> Iterator[RedisBackend]:
    wires: list[Wire] = []

    def dial() -> Wire:
        wires.append(Wire(Endpoint(path=server.socket_path), "test", 10.0))
        return wires[-1]

    yield RedisBackend(server.client, {}, (7, 0, 0), dial)
    for wire in wires:
        wire.close()
