"""sd_notify: the right words reach the manager, and no manager is no problem."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[tuple[str, socket.socket]]:
    """A manager's address as in NOTIFY_SOCKET, and its socket."""
    name = f"jqd-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        address = f"@{name}" if request.param == "abstract" else str(short_folder / name)
        sock.bind("\0" + name if request.param == "abstract" else address)
        yield address, sock


def test_words(manager: tuple[str, socket.socket]) -> None:
    address, sock = manager
    environ = {"NOTIFY_SOCKET": address, "HOME": "/"}
    notifier = Notifier.from_environ(environ)
    assert environ == {"HOME": "/"}, "children must not answer in our place"
    notifier.ready("ready 4/4\nsecond line")
    assert sock.recv(999) == b"READY=1\nSTATUS=ready 4/4 second line"
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = sock.recv(999).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    notifier.status("draining")
    notifier.watchdog()
    notifier.stopping()
    assert [sock.recv(999) for _ in range(3)] == [b"STATUS=draining", b"WATCHDOG=1", b"STOPPING=1"]
    notifier.close()


def test_a_manager_that_does_not_read_stops_nobody(manager: tuple[str, socket.socket]) -> None:
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": manager[0]})
    for _ in range(5000):
        notifier.watchdog()
    notifier.close()


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/no/such"}]
)
def test_no_manager_is_no_problem(environ: dict[str, str]) -> None:
    notifier = Notifier.from_environ(environ)
    notifier.ready("ready")
    notifier.watchdog()
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "nonsense"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_pinged_twice_as_often_as_asked(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier.from_environ(environ).watchdog_interval == interval
    assert environ == {}
