"""Fixtures of the tests that go beyond one machine and one local server: those of the whole-jqd tests, and an authority."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import OPENSSL, Authority
from tests.support.hosts import Host, can_separate
from tests.support.link import Link
from tests.support.servers import Server
from tests.whole.conftest import jqd, server

__all__ = ["NewHost", "authority", "host", "jqd", "link", "server"]

NewHost = Callable[..., Host]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    folder: Path = tmp_path_factory.mktemp("certificates")
    return Authority(folder)


@pytest.fixture
def host(tmp_path: Path, server: Server) -> Iterator[NewHost]:
    """`host(url=…, **sections of the file)`: a jqd on a host of its own, started, all workers ready."""
    if not can_separate():
        pytest.skip("this user may not make pid namespaces")
    made: list[Host] = []

    def new(*, url: str = "", start: bool = True, **config: Any) -> Host:
        folder = tmp_path / f"host{len(made)}"
        folder.mkdir()
        one = Host(folder, url or server.url, start=False, **config)
        made.append(one)
        if start:
            one.start()
        return one

    yield new
    for one in made:
        one.close()


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    """A network to the fixture `server` that can be broken."""
    one = Link(server.socket_path)
    yield one
    one.close()
