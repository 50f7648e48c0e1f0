"""A page of the documentation as a story: its code blocks, run one after the other in a fresh copy of the project.

What the word after the language means:

    ```bash            run, and must end with 0           ```bash background   jqd in the foreground: started and left running
    ```python          a script, run                      ```python file=a.py  written down (a test file is run by pytest)
    ```yaml            a configuration, or a part of one: must be valid         ```yaml file=…  written down as well
    ```json            must be valid                      ```text, ```lua, ```acl   for reading
    ```… norun=WHY     not run

Each page has a server of its own and jqd's port of its own; addresses in the text are replaced by those.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from supervisor.settings import load
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WRAPPER = "#!{python}\nimport sys\nsys.path.insert(0, {root!r})\nfrom {module} import main\nsys.exit(main())\n"


@dataclass(frozen=True, slots=True)
class Block:
    """`words`: what follows the language, `name=value` or bare."""

    language: str
    words: dict[str, str]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        words = {name: value for name, _, value in (word.partition("=") for word in match[2].split())}
        found.append(Block(match[1], words, match[3], text.count("\n", 0, match.start()) + 1))
    return found


class Story:
    """One page being acted out in `folder`."""

    def __init__(self, folder: Path, redis_socket: str) -> None:
        self.folder = folder / "project"
        self.port = free_port()
        self.replace = {
            "redis://localhost:6379": f"unix://{redis_socket}",
            "127.0.0.1:2112": f"127.0.0.1:{self.port}",
            "redis-cli": f"redis-cli -s {redis_socket}",
        }
        ignore = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "var", "img", "benchmarks")
        shutil.copytree(ROOT, self.folder, ignore=ignore, symlinks=True)
        self._install()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("JQ", "REDIS", "PYTEST"))}
        self.environment |= {
            "PATH": f"{self.folder}/.venv/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "JQ_METRICS_ADDR": f"127.0.0.1:{self.port}",
            "JQ_REDIS_ADDR": f"unix://{redis_socket}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def _install(self) -> None:
        """What `make run` would install is there already."""
        bin_ = self.folder / ".venv/bin"
        bin_.mkdir(parents=True)
        (bin_ / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (bin_ / "pytest").write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest -c /dev/null --rootdir=. "$@"\n')
        for name, module in (("jqd", "supervisor.cli"), ("jqctl", "supervisor.ctl")):
            (bin_ / name).write_text(WRAPPER.format(python=sys.executable, root=str(self.folder), module=module))
        for path in bin_.iterdir():
            path.chmod(0o755)
        for stamp in (".run", ".dev"):
            (self.folder / ".venv" / stamp).touch()

    def run(self, block: Block) -> None:
        if "norun" in block.words:
            return
        text = block.text
        for old, new in self.replace.items():
            text = text.replace(old, new)
        if self._running:  # others on this machine have nothing to do with it
            text = text.replace("pgrep ", f"pgrep -s {self._running[-1].pid} ")
        file = block.words.get("file")
        if file:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_text(text)
        match block.language:
            case "bash":
                self._background(text) if "background" in block.words else self._bash(text)
            case "python" if file and Path(file).name.startswith("test_"):
                self._bash(f"pytest -q -p jobqueue.testing.plugin {file}")
            case "python":
                self._bash(f"python {file}" if file else f"python - <<'THE_END'\n{text}\nTHE_END")
            case "yaml":
                self._configuration(text)
            case "json":
                json.loads(text)
            case "text" | "lua" | "acl":
                pass
            case other:
                raise AssertionError(f"nobody knows how to run {other}")

    def _bash(self, text: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, f"exit code {done.returncode}\n{text}\n{done.stdout}\n{done.stderr}"

    def _background(self, text: str) -> None:
        self.end()
        with (self.folder / "output").open("wb") as output:
            started = subprocess.Popen(
                ["bash", "-c", text], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip
        self._running.append(started)

        def healthy() -> bool:
            assert started.poll() is None
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        try:
            eventually(healthy, 40, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.folder / 'output').read_text()}") from None

    def _configuration(self, text: str) -> None:
        sections = yaml.safe_load(text)
        complete = {"pools": [{"name": "default", "queues": ["default"]}], "handlers": ["jobqueue.demo"]} | sections
        path = self.folder / "block.yaml"
        path.write_text(yaml.safe_dump(complete, sort_keys=False) if complete != sections else text)
        load(str(path), environ={"JQD_TOKEN": "x" * 32, "REDIS_URL": "redis://localhost"})

    def end(self) -> None:
        """Ctrl-C to what runs in the background; it must end well."""
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                code = process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            output = (self.folder / "output").read_text()
            assert re.search(r'"event":"stopped".*"code":0', output), (
                f"exit code {code}\n{output}"
            )  # make has one of its own
        self._running.clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
