"""Headless Chromium for tests, over WebDriver with nothing but the standard library. Skips where chromium-driver is not installed."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "ArrowDown": "\ue015",
    "ArrowUp": "\ue013",
    "Tab": "\ue004",
    "Space": " ",
}


def missing() -> str | None:
    """Why there is no browser here, or None."""
    if shutil.which("chromedriver") is None:
        return "chromedriver is not installed (Debian: chromium-driver)"
    return None if shutil.which("chromium") or shutil.which("google-chrome") else "chromium is not installed"


class BrowserFault(AssertionError):
    """What the driver said instead of doing it."""


class Browser:
    """One window. Everything that goes wrong in its console fails the test at `close`."""

    def __init__(self, width: int = 1320, height: int = 860) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="jqd-chromium-")
        environment = os.environ | {"HOME": self.folder}
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={self.port}", "--log-level=OFF"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.session = ""
        try:
            eventually(self._ready, 20, what="chromedriver")
            arguments = [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ]
            options = {
                "args": [*arguments, f"--window-size={width},{height}", f"--user-data-dir={self.folder}/profile"]
            }
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            self.session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        except BaseException:
            self.close()
            raise

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(self._call("GET", "/status")["ready"])
        return False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            value = json.loads(response.read())["value"]
        if response.status != 200:
            raise BrowserFault(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def _do(self, path: str, body: Any = None, method: str = "POST") -> Any:
        return self._call(method, f"/session/{self.session}{path}", {} if body is None and method == "POST" else body)

    def open(self, url: str) -> None:
        self._do("/url", {"url": url})

    def js(self, script: str, *arguments: Any) -> Any:
        """The value of `script`, a function body."""
        return self._do("/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._do("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def find(self, css: str, has: str = "") -> dict[str, str]:
        """The first visible element that fits and has `has` in its text. Raises BrowserFault if there is none."""
        script = (
            "const all = [...document.querySelectorAll(arguments[0])]; "
            "return all.find(e => e.checkVisibility() && e.textContent.includes(arguments[1]))"
        )
        found = self.js(script, css, has)
        if found is None:
            raise BrowserFault(f"no visible {css} with {has!r}")
        return dict(found)

    def click(self, css: str, has: str = "") -> None:
        """Once it is there."""
        for _ in range(5):
            element = eventually(lambda: self.find(css, has), 10, what=f"{css} {has}")
            try:
                self._do(f"/element/{element[ELEMENT]}/click")
            except BrowserFault as fault:
                if "stale element" not in str(fault):
                    raise
                continue  # the page was drawn anew between the look and the click
            return
        raise BrowserFault(f"{css} with {has!r} is drawn anew all the time")

    def type(self, css: str, words: str) -> None:
        """Replace what an input holds."""
        element = eventually(lambda: self.find(css), 10, what=css)
        self._do(f"/element/{element[ELEMENT]}/clear")
        self._do(f"/element/{element[ELEMENT]}/value", {"text": words})

    def press(self, *keys: str) -> None:
        """Keys by name, to whatever has the focus."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._do("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, css: str = "body") -> str:
        return str(self.js("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", css))

    def wait_for(self, words: str, css: str = "body", timeout: float = 15) -> str:
        """Until `words` can be read in `css`."""
        return (
            eventually(lambda: words in self.text(css) and self.text(css), timeout, every=0.05, what=f"{words!r}") or ""
        )

    def console(self) -> list[str]:
        """Warnings and errors since the last call."""
        entries = self._do("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def looks(self, *, dark: bool = False, phone: bool = False) -> None:
        """Colours and size of the screen."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        if phone:
            self.devtools("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        else:
            self.devtools("Emulation.clearDeviceMetricsOverride")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._do("/screenshot", method="GET")))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            if self.session:
                self._do("", method="DELETE")
        self.driver.kill()
        self.driver.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
