"""`unit`: jqd.service on a machine booted by real systemd, with an embedded server and handlers that note what ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import yaml

from tests.support.jqd import job, push
from tests.systemd.machine import Machine, why_not

HANDLERS = """
import logging, os, time
from jobqueue import handler, on_worker_start

@on_worker_start
def wait():
    while os.path.exists("/var/lib/jqd/wait"): time.sleep(0.02)

@handler("note")
def note(name: str, seconds: float = 0.0):
    with open(os.environ["STATE_DIRECTORY"] + "/runs", "a") as runs: print("begin", name, file=runs)
    logging.getLogger("app").warning("noting %s", name)
    print("printed", name, flush=True)
    time.sleep(seconds)
    with open(os.environ["STATE_DIRECTORY"] + "/runs", "a") as runs: print("end", name, file=runs)
"""


class Unit:
    """One unit. `client`: its Redis, as seen from outside."""

    def __init__(self, machine: Machine, name: str, config: str, port: int) -> None:
        self.machine, self.name, self.config = machine, name, machine.path(config)
        self.state = machine.path("/var/lib/jqd" if "@" not in name else f"/var/lib/jqd/{name.partition('@')[2]}")
        self.port = port
        self.since = machine.run("date", "+@%s.%6N").stdout.strip()
        self.clients: list[redis.Redis[Any]] = []

    def configure(self, **sections: Any) -> None:
        inside = str(self.state).removeprefix(str(self.machine.path("")))
        settings: dict[str, Any] = {
            "redis": {"url": f"embedded:{inside}/redis"},
            "handlers": ["app.py", "jobqueue.demo"],
            "pools": [{"name": "default", "processes": 2, "queues": ["default"]}],
            "http": {"listen": f"127.0.0.1:{self.port}"},
            "shutdown": {"drain_timeout": "20s"},
            **sections,
        }
        self.config.write_text(yaml.safe_dump(settings))

    def drop_in(self, text: str) -> None:
        """Settings of the test's own, as `systemctl edit` makes them."""
        folder = self.machine.path(f"/run/systemd/system/{self.name}.service.d")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.conf").write_text(text)
        self.ctl("daemon-reload")

    def ctl(self, verb: str, *more: str, check: bool = True) -> str:
        words = [verb, *more] if verb == "daemon-reload" else [verb, *more, self.name]
        return self.machine.run("systemctl", *words, check=check).stdout

    def show(self, name: str) -> str:
        return self.machine.show(self.name, name)

    def client(self) -> redis.Redis[Any]:
        made = redis.Redis(unix_socket_path=str(self.state / "redis/redis.sock"), socket_timeout=5)
        self.clients.append(made)
        return made

    def note(self, *names: str, seconds: float = 0.0) -> None:
        push(self.client(), *(job("note", {"name": name, "seconds": seconds}, id=name) for name in names))

    def runs(self, what: str) -> list[str]:
        path = self.state / "runs"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [name for word, name in lines if word == what]

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def kill(self, signal: str) -> None:
        """To the main process alone."""
        self.machine.run("kill", f"-{signal}", str(self.pid()))

    def workers(self) -> list[str]:
        """Pids of the processes whose title is a worker's."""
        shown = self.machine.run("ps", "-eo", "pid,ppid,args").stdout.splitlines()
        words = [line.split(None, 2) for line in shown if "jqd: worker" in line]
        return [pid for pid, parent, _ in words if parent == str(self.pid())]

    def journal(self, *match: str) -> list[dict[str, Any]]:
        """Entries of the unit since the test began, those with all of `FIELD=value`."""
        self.machine.run("journalctl", "--sync", check=False)
        shown = self.machine.run(
            "journalctl", "-q", "-u", self.name, "-S", self.since, "-o", "json", *match, check=False
        )
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.machine.path("/var/lib/jqd/wait").unlink(missing_ok=True)
        self.machine.run("systemctl", "kill", "-s", "KILL", self.name, check=False)
        self.ctl("stop", check=False)
        self.ctl("reset-failed", check=False)
        self.machine.run("bash", "-c", f"rm -rf /var/lib/jqd/* /run/systemd/system/{self.name}.service.d", check=False)
        self.ctl("daemon-reload")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    machine = Machine(tmp_path_factory.mktemp("systemd"))
    machine.path("/opt/jqd/app.py").write_text(HANDLERS)
    yield machine
    machine.close()


@pytest.fixture
def unit(machine: Machine) -> Iterator[Unit]:
    """jqd.service, configured, not started."""
    unit = Unit(machine, "jqd", "/etc/jqd/jobqueue.yaml", 2112)
    unit.configure()
    yield unit
    unit.close()


@pytest.fixture
def second(machine: Machine) -> Iterator[Unit]:
    """An instance of the template."""
    unit = Unit(machine, "jqd@two", "/etc/jqd/two.yaml", 2113)
    unit.configure()
    yield unit
    unit.close()
