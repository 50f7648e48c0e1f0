"""Masters for tests, ended however the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.masters import RunningMaster

StartMaster = Callable[..., RunningMaster]


@pytest.fixture
def start_master(tmp_path: Path) -> Iterator[StartMaster]:
    masters: list[RunningMaster] = []

    def start(**settings: Any) -> RunningMaster:
        masters.append(RunningMaster(tmp_path, **settings))
        return masters[-1]

    yield start
    for master in masters:
        master.end()
