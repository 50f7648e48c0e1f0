"""A worker's name says on its own whether its process lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import identity
from supervisor.identity import BadWorkerName, WorkerName
from tests.support.waiting import eventually

hexes = st.text("0123456789abcdef", min_size=1, max_size=8)
numbers = st.integers(min_value=0, max_value=2**63)
names = st.builds(
    WorkerName, hexes, hexes, st.from_regex(r"[a-z0-9_.-]{1,32}", fullmatch=True), numbers, numbers, numbers, numbers
)


@given(names)
def test_every_name_is_read_back(name: WorkerName) -> None:
    assert identity.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c", "h.n.p-1.2-3", "h.n.p.2-3-4", "h..p-1.2-3-4", "h.n.p-x.2-3-4", "h.n.p-01.2-3-4", "h.n.p-1.2-3-4 "],
)
def test_what_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(BadWorkerName, match="not a worker id"):
        identity.parse(text)


def name_of(pid: int, starttime: int, host: str | None = None) -> WorkerName:
    return WorkerName(host or identity.host(), "abcdef", "default", 0, 1, pid, starttime)


def test_alive_until_the_process_is_gone_zombies_count_as_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = identity.start_time(child.pid)
    assert started is not None
    name = name_of(child.pid, started)
    assert identity.alive(name)
    child.kill()
    eventually(lambda: not identity.alive(name))  # a zombie: nobody has collected it yet
    child.communicate()
    assert identity.start_time(child.pid) is None


def test_a_reused_pid_is_somebody_else() -> None:
    mine = identity.start_time(os.getpid())
    assert mine is not None
    assert identity.alive(name_of(os.getpid(), mine))
    assert not identity.alive(name_of(os.getpid(), mine - 1))


def test_workers_of_another_host_are_presumed_alive() -> None:
    assert identity.alive(name_of(os.getpid(), 1, host="00000000"))


def test_a_command_name_with_parentheses_does_not_confuse() -> None:
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert identity.start_time(child.pid) is not None


def test_nonces_and_host_have_their_shape() -> None:
    assert len(identity.host()) == 8
    assert len({identity.new_nonce() for _ in range(50)}) > 45
    assert len(identity.new_nonce()) == 6
