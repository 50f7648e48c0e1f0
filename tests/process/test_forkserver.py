"""The forkserver: workers are the master's children, born clean; nothing it cannot fork is forked."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor import channel as channels
from supervisor import spawn
from supervisor.scoreboard import Scoreboard
from supervisor.settings import encode
from tests.support import cgroups
from tests.support.roles import Role, settings, start_role, subreaper
from tests.support.waiting import eventually

Start = Callable[..., Role]


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def start(board: Scoreboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """`start(code)`: a forkserver whose one handler module is this code, found in the current folder."""
    monkeypatch.chdir(tmp_path)
    roles: list[Role] = []

    def begin(code: str = "") -> Role:
        (tmp_path / "shop.py").write_text(code)
        roles.append(start_role("tests.support.stub_forkserver", board, settings(handlers=("shop",)), generation=3))
        return roles[-1]

    with subreaper():
        yield begin
        for role in roles:
            role.close()


def worker(forkserver: Role, pool: str = "default", slot: int = 0, birth: int = 1) -> Role:
    """Ask for a worker; its pid is known after its hello."""
    ours, theirs = channels.pair()
    with theirs:
        message = {"kind": "spawn", "slot": slot, "birth": birth, "pool": pool, "index": 0, "generation": 3}
        forkserver.channel.send(message, [theirs.fileno()])
    return Role(0, ours)


def greeted(role: Role) -> dict[str, Any]:
    hello = role.hear("hello")
    role.pid = hello["pid"]
    return hello


def test_it_hands_over_what_the_handlers_are(start: Start) -> None:
    forkserver = start(
        "from jobqueue import handler\n@handler('email:welcome', max_attempts=5)\ndef f(user_id: int) -> None: ..."
    )
    forkserver.hear("ready")
    assert "email:welcome" in json.dumps(json.loads(channels.read_memfd(forkserver.fds[0])))
    forkserver.hear("alive")
    title = Path(f"/proc/{forkserver.pid}/cmdline").read_bytes()
    assert b"jqd: forkserver gen 3" in title
    forkserver.channel.send({"kind": "stop"})
    assert forkserver.ended().code == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "no_such_module"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='poller', daemon=True).start()",
            "poller",
        ),
    ],
)
def test_handlers_that_cannot_be_used_are_told_with_the_reason(start: Start, code: str, said: str) -> None:
    forkserver = start(code)
    failed = forkserver.hear("failed")
    assert said in failed["error"]
    assert "shop" in failed["error"] or "thread" in failed["error"]
    assert failed["exit"] == 78
    assert forkserver.ended().code == 78


def test_a_worker_is_the_masters_child_and_born_clean(start: Start) -> None:
    forkserver = start(
        "import signal\nsignal.signal(signal.SIGTERM, lambda *a: None)\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    )
    forkserver.hear("ready")
    first, second = worker(forkserver), worker(forkserver, slot=1, birth=2)
    hellos = [greeted(first), greeted(second)]
    for hello in hellos:
        assert hello["parent"] == os.getpid()
        assert hello["group"] == hello["pid"]
        assert (hello["blocked"], hello["term"]) == (0, 1)
        assert len(hello["sockets"]) == 1, "its own channel and nobody else's"
    assert hellos[0]["random"] != hellos[1]["random"]
    first.channel.close()
    assert first.ended() == spawn.Death(first.pid, 7, None), "collected by the master, not by the forkserver"
    second.close()


def test_a_hard_kill_takes_grandchildren_along(start: Start) -> None:
    forkserver = start()
    forkserver.hear("ready")
    role = worker(forkserver, "forks")
    greeted(role)
    role.hear("forked")
    spawn.kill_group(role.pid, signal.SIGKILL)
    assert role.ended().signal == signal.SIGKILL
    eventually(lambda: role.channel.receive() == [] and role.channel.closed)  # nobody holds the other end any more
    orphan = eventually(spawn.next_death)
    assert spawn.collect(orphan) == spawn.Death(orphan, None, signal.SIGKILL)
    role.channel.close()


@pytest.mark.parametrize(("pool", "code"), [("fails", 70), ("exits", 3)])
def test_a_failure_before_hello_reaches_the_master(start: Start, pool: str, code: int) -> None:
    forkserver = start()
    forkserver.hear("ready")
    role = worker(forkserver, pool)
    if pool == "fails":
        assert "cannot open the shop" in role.hear("failed")["error"]
    eventually(lambda: role.channel.receive() == [] and role.channel.closed)
    role.channel.close()
    role.pid = eventually(spawn.next_death)
    assert role.ended().code == code


def test_a_failure_after_hello_is_not_a_failed_start(start: Start) -> None:
    forkserver = start()
    forkserver.hear("ready")
    role = worker(forkserver, "late")
    eventually(lambda: role.channel.receive() == [] and role.channel.closed)
    role.channel.close()
    role.pid = eventually(spawn.next_death)
    assert role.ended().code == 70


def test_a_fork_is_refused_while_there_are_threads(start: Start) -> None:
    forkserver = start(
        "import signal, threading, time\n"
        "def late(*a): threading.Thread(target=time.sleep, args=(60,), name='straggler', daemon=True).start()\n"
        "signal.signal(signal.SIGUSR1, late)"
    )
    forkserver.hear("ready")
    os.kill(forkserver.pid, signal.SIGUSR1)
    eventually(lambda: len(os.listdir(f"/proc/{forkserver.pid}/task")) == 2)
    role = worker(forkserver)
    assert "straggler" in role.hear("failed")["error"]
    eventually(lambda: role.channel.receive() == [] and role.channel.closed)
    role.channel.close()
    forkserver.hear("alive")


def test_a_machine_without_room_for_another_process_is_eof_not_a_hang(start: Start) -> None:
    """And with room again the next worker is born."""
    with cgroups.group("pids") as group:
        if group is None:
            pytest.skip("no pids cgroup may be made here")
        forkserver = start()
        forkserver.hear("ready")
        (group / "cgroup.procs").write_text(str(forkserver.pid))
        (group / "pids.max").write_text("1")
        role = worker(forkserver)
        eventually(lambda: role.channel.receive() == [] and role.channel.closed)
        role.channel.close()
        (group / "pids.max").write_text("max")
        role = worker(forkserver, birth=2)
        greeted(role)
        role.close()
        forkserver.close()


def test_workers_outlive_their_forkserver(start: Start) -> None:
    forkserver = start()
    forkserver.hear("ready")
    role = worker(forkserver)
    greeted(role)
    os.kill(forkserver.pid, signal.SIGKILL)
    assert forkserver.ended().signal == signal.SIGKILL
    assert spawn.collect(role.pid) is None
    role.channel.close()
    assert role.ended().code == 7


def test_it_leaves_with_the_master(start: Start) -> None:
    forkserver = start()
    forkserver.hear("ready")
    forkserver.channel.close()
    assert forkserver.ended().code == 0


def test_a_fresh_worker_that_cannot_import_says_why(
    board: Scoreboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text("raise RuntimeError('closed')")
    spec = spawn.WorkerSpec(0, 1, "default", 0, 1, "01234567", "abcdef", os.getpid())
    ours, theirs = channels.pair()
    with theirs:
        conf = encode(settings(handlers=("shop",)))
        pid = spawn.spawn_fresh_worker(spec, channel_end=theirs, board_fd=board.fd, settings=conf)
    assert os.getpgid(pid) == pid
    role = Role(pid, ours)
    assert "closed" in role.hear("failed")["error"]
    assert role.ended().code == 70
    role.close()


def test_many_at_once_are_all_born_and_told_apart(start: Start) -> None:
    forkserver = start()
    forkserver.hear("ready")
    began = time.monotonic()
    roles = [worker(forkserver, slot=n, birth=n + 1) for n in range(20)]
    hellos = [greeted(role) for role in roles]
    assert [hello["birth"] for hello in hellos] == list(range(1, 21))
    assert all(len(hello["sockets"]) == 1 for hello in hellos)
    assert time.monotonic() - began < 10
    for role in roles:
        role.close()
