"""Starting and ending processes: what a child is born with, and deaths that are seen before they are collected."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import channel as channels
from supervisor import spawn
from supervisor.scoreboard import Scoreboard
from supervisor.spawn import WorkerSpec
from tests.support.waiting import eventually

SPEC = WorkerSpec(slot=3, birth=9, pool="default", index=1, generation=2, host="h", nonce="n", master_pid=4)


def test_a_spec_survives_a_message() -> None:
    assert WorkerSpec.from_dict({**SPEC.to_dict(), "kind": "spawn"}) == SPEC


@pytest.fixture
def child() -> Iterator[int]:
    """A child that leads its own group and waits, with a grandchild that does too."""
    code = "import os, signal\nif os.fork(): print(flush=True)\nsignal.pause()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        spawn.kill_group(process.pid, signal.SIGKILL)
        if spawn.collect(process.pid) is None:
            process.wait()
        process.returncode = 0


def group_members(group: int) -> int:
    found = 0
    for name in os.listdir("/proc"):
        try:
            found += name.isdigit() and os.getpgid(int(name)) == group and Path(f"/proc/{name}/exe").exists()
        except OSError:
            continue
    return found


def test_a_dead_childs_group_can_be_killed_before_its_number_is_free(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    assert eventually(spawn.next_death) == child
    assert spawn.next_death() == child, "a peek must not collect"
    assert group_members(child) == 1, "the grandchild lives on"
    spawn.kill_group(child, signal.SIGKILL)
    eventually(lambda: group_members(child) == 0)
    assert spawn.collect(child) == spawn.Death(child, None, signal.SIGKILL)
    assert spawn.collect(child) is None


def test_every_death_is_told_once_with_its_status() -> None:
    pids = {
        os.posix_spawn(sys.executable, [sys.executable, "-c", f"raise SystemExit({n})"], os.environ): n
        for n in range(5)
    }
    seen = {}
    while len(seen) < len(pids):
        pid = eventually(spawn.next_death, every=0.001)
        death = spawn.collect(pid)
        assert death is not None
        seen[pid] = death.code
    assert seen == pids


def test_the_living_are_not_collected(child: int) -> None:
    assert spawn.collect(child) is None
    pidfd = spawn.open_pidfd(child)
    assert pidfd is not None
    assert not os.get_inheritable(pidfd)
    os.close(pidfd)


def test_killing_the_gone_is_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    spawn.kill_group(process.pid, signal.SIGTERM)
    assert spawn.open_pidfd(process.pid) is None


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_no_slip_kills_ourselves_or_everybody(pid: int) -> None:
    with pytest.raises(ValueError, match="not the pid of a child"):
        spawn.kill_group(pid, signal.SIGKILL)


REPORT = """
import json, os, signal, sys
links = {fd: os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')}
status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
from supervisor import channel
channel.inherited(3).send({'links': links, 'blocked': status['SigBlk'], 'ignored': status['SigIgn'], 'sid': os.getsid(0),
    'pgid': os.getpgid(0), 'pid': os.getpid(), 'environ': dict(os.environ), 'path': sys.path, 'argv': sys.argv})
"""


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module to be started by `python -m`, which says what it was born with."""
    (tmp_path / "born.py").write_text(REPORT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "born"


def born(report: str, end: socket.socket, board_fd: int, *, own_session: bool = True) -> int:
    return spawn.exec_module([report, "x"], {3: end.fileno(), 4: board_fd}, {"EXTRA": "1"}, own_session=own_session)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_child_is_born_with_its_channel_and_board_and_nothing_else(
    report: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: bool
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    board = Scoreboard.create()
    ours, theirs = channels.pair()
    leak = os.open("/etc/hostname", os.O_RDONLY)
    saved = [os.dup(fd) if exists(fd) else None for fd in (3, 4)]
    board_fd = board.fd
    if swapped:  # the sources are the very numbers of the targets, the wrong way round
        os.dup2(theirs.fileno(), 4, inheritable=False)
        os.dup2(board.fd, 3, inheritable=False)
        theirs.detach()
        theirs, board_fd = socket.socket(fileno=4), 3
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pid = born(report, theirs, board_fd)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if swapped:
            theirs.detach()
            for fd, old in zip((3, 4), saved, strict=True):
                os.close(fd) if old is None else os.dup2(old, fd, inheritable=False)
    for old in saved:
        if old is not None:
            os.close(old)
    theirs.close()
    os.close(leak)
    assert ours.wait(20)
    ((said, _),) = ours.receive()
    eventually(lambda: spawn.collect(pid))
    ours.close()
    links = said["links"]
    assert set(links) == {"0", "1", "2", "3", "4"}, links
    assert links["0"] == "/dev/null"
    assert links["3"].startswith("socket:")
    assert "jqd-scoreboard" in links["4"]
    assert int(said["blocked"], 16) == 0
    assert int(said["ignored"], 16) & 1 << (signal.SIGHUP - 1) == 0
    assert said["sid"] == said["pgid"] == said["pid"] == pid
    assert said["environ"]["EXTRA"] == "1"
    assert "NOTIFY_SOCKET" not in said["environ"]
    assert not {"", str(tmp_path / "elsewhere")} & set(said["path"]), (
        "a file in the current folder could shadow a module"
    )
    board.close()


def exists(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_fresh_worker_has_a_group_but_no_session(report: str) -> None:
    board = Scoreboard.create()
    ours, theirs = channels.pair()
    pid = born(report, theirs, board.fd, own_session=False)
    theirs.close()
    assert ours.wait(20)
    ((said, _),) = ours.receive()
    eventually(lambda: spawn.collect(pid))
    assert (said["pgid"], said["sid"]) == (pid, os.getsid(0))
    ours.close()
    board.close()


def test_who_is_not_the_masters_child_leaves_at_once() -> None:
    code = "import signal; from supervisor import spawn; spawn.die_with_parent(1, signal.SIGTERM); print('stayed')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_child_dies_with_its_parent() -> None:
    code = (
        "import os, signal\nfrom supervisor import spawn\nparent = os.getpid()\nif os.fork() == 0:\n"
        "    spawn.die_with_parent(parent, signal.SIGKILL); print(os.getpid(), flush=True)\nsignal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pidfd = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()  # EOF: the child held the pipe too
    os.close(pidfd)
