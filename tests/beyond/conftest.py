"""Fixtures of the tests that go beyond one machine and one local server: those of the whole-jqd tests, and an authority."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import OPENSSL, Authority
from tests.whole.conftest import jqd, server

__all__ = ["authority", "jqd", "server"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    folder: Path = tmp_path_factory.mktemp("certificates")
    return Authority(folder)
