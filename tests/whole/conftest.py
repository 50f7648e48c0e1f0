"""`jqd(...)`: a whole jqd of the test's own, on a Redis of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.support.jqd import Jqd
from tests.support.servers import Server

NewJqd = Callable[..., Jqd]


@pytest.fixture
def server(new_server: NewServer) -> Server:
    return new_server(appendonly=True)


@pytest.fixture
def jqd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NewJqd]:
    """`jqd(**sections of the file)`: started, all workers ready; `url=` for another server than the fixture `server`."""
    made: list[Jqd] = []

    def new(*, url: str | None = None, start: bool = True, **config: Any) -> Jqd:
        folder = tmp_path / f"jqd{len(made)}"
        folder.mkdir()
        one = Jqd(folder, url or request.getfixturevalue("server").url, start=False, **config)
        made.append(one)
        if start:
            one.start()
        return one

    yield new
    for one in made:
        one.close()
