"""Stopping, and not being able to start: order, deadlines, exit codes."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.conftest import StartMaster
from tests.process.masters import STUBS, RunningMaster
from tests.support.waiting import eventually


def order_of_leaving(master: RunningMaster) -> list[str]:
    return [event["role"] for event in master.events() if event["event"] in ("role gone", "worker gone")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_sends_one_term_waits_for_the_job_and_leaves_in_order(start_master: StartMaster, number: int) -> None:
    master = start_master()
    workers = master.await_ready()
    master.await_role("exporter")
    busy = workers["default/0"]
    master.job(busy)
    eventually(lambda: master.status().get("ready") == 2)
    master.signal(number)
    eventually(lambda: master.status().get("draining"))
    assert "default/0" in master.workers()
    (master.folder / f"job-{busy}").unlink()
    assert master.wait() == 0
    assert (master.folder / f"term-{busy}").read_text() == "1"
    left = order_of_leaving(master)
    assert left[:2] == ["worker", "worker"]
    assert left[-1] == "exporter"
    assert [message["kind"] for message in master.told()][-2:] == ["last_sweep", "stop"]


def test_at_the_deadline_jobs_are_aborted_and_what_does_not_obey_is_killed(start_master: StartMaster) -> None:
    master = start_master(shutdown={"drain_timeout": 0.5, "abort_grace": 0.3})
    workers = master.await_ready()
    master.job(workers["default/0"], ending="obey")
    master.job(workers["default/1"], ending="ignore")
    started = time.monotonic()
    master.signal(signal.SIGTERM)
    assert master.wait() == 0
    assert time.monotonic() - started < 15  # nobody waited for the job that ignores it
    assert (master.folder / f"abort-{workers['default/0']}").read_text() == "2"
    causes = {event["slot"]: event["cause"] for event in master.events("worker gone")}
    assert causes == {"default/0": "exited", "default/1": "drain"}
    assert {message["cause"] for message in master.told("died")} == {"exited", "drain"}


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,)])
def test_a_second_term_or_quit_aborts_now(start_master: StartMaster, numbers: tuple[int, ...]) -> None:
    master = start_master(shutdown={"drain_timeout": 60.0, "abort_grace": 0.3})
    workers = master.await_ready()
    master.job(workers["default/0"], ending="ignore")
    for count, number in enumerate(numbers):
        master.signal(number)
        master.await_event("drain" if count + 1 < len(numbers) else "abort")
    assert master.wait(5) == 0


@pytest.mark.parametrize("left", [3, -1])
def test_jobs_that_could_not_be_put_back_make_it_75(start_master: StartMaster, left: int) -> None:
    master = start_master()
    master.await_ready()
    (master.folder / "left").write_text(str(left))
    master.await_role("steward")
    master.signal(signal.SIGTERM)
    assert master.wait() == 75


def test_handlers_that_do_not_import_make_it_78_with_the_traceback(start_master: StartMaster) -> None:
    master = start_master(handlers=["no_such_module_anywhere"])
    assert master.wait() == 78
    assert "no_such_module_anywhere" in master.events("unusable")[0]["error"]


def test_workers_that_never_boot_make_it_78_and_soon(start_master: StartMaster, tmp_path: Path) -> None:
    (tmp_path / "boot-1").write_text("fail")
    master = start_master()
    assert master.wait() == 78
    assert "does not boot" in master.events("unusable")[0]["error"]
    assert len(master.events("worker failed to start")) <= 6


def test_an_exporter_that_cannot_listen_at_the_first_start_makes_it_78(
    start_master: StartMaster, tmp_path: Path
) -> None:
    (tmp_path / "port-taken").touch()
    master = start_master()
    assert master.wait() == 78
    assert "2112" in master.events("unusable")[0]["error"]


def test_a_second_master_with_the_same_pidfile_is_refused(start_master: StartMaster) -> None:
    master = start_master(pidfile="jqd.pid")
    master.await_ready()
    second = start_master(pidfile="jqd.pid")
    assert second.wait() == 78
    master.signal(signal.SIGTERM)
    assert master.wait() == 0
    assert not (master.folder / "jqd.pid").exists()


def test_systemd_hears_ready_reloading_and_stopping(start_master: StartMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = f"\0jqd-test-{os.getpid()}-{time.monotonic_ns()}"
        manager.bind(address)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + address[1:])
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        master = start_master()
        monkeypatch.undo()
        words: list[str] = []

        def hear(word: str) -> str:
            while True:
                words.append(manager.recv(4096).decode())
                if word in words[-1]:
                    return words[-1]

        assert "STATUS=ready 2/2, generation 1" in hear("READY=1")
        hear("WATCHDOG=1")
        master.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in hear("RELOADING=1")
        assert "generation 2" in hear("READY=1")
        master.signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert master.wait() == 0


def test_a_closed_terminal_is_a_drain_and_no_reload(start_master: StartMaster) -> None:
    ours, theirs = pty.openpty()
    master = start_master(terminal=theirs)
    os.close(theirs)
    master.await_ready()
    os.close(ours)
    assert master.wait() == 0
    assert master.events("reload") == []
    assert master.events("drain")[0]["cause"] == "the terminal is gone"


def test_a_running_job_survives_the_master_no_longer_than_itself(start_master: StartMaster) -> None:
    """The master is killed: idle workers, forkserver and exporter leave by themselves."""
    master = start_master()
    workers = master.await_ready()
    pids = [*workers.values(), master.role("forkserver"), master.await_role("exporter")]
    master.process.kill()
    eventually(lambda: not any(_exists(pid) for pid in pids))


def _exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_as_pid_1_strangers_are_reaped_quietly(start_master: StartMaster) -> None:
    """Orphans of a worker become the master's children; they are reaped and counted nowhere."""
    master = start_master()
    pid = master.await_ready()["default/0"]
    (master.folder / f"child-{pid}").write_text("orphan")
    orphan = int(eventually(lambda: (f := master.folder / f"child-of-{pid}").exists() and f.read_text()))
    os.kill(orphan, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{orphan}"))
    assert master.events("worker gone") == []


def test_the_exit_code_of_a_bug_is_70() -> None:
    code = (
        "import sys; from supervisor import master\n"
        "from supervisor.notify import Notifier\n"
        "class Log:\n    def info(self, *a, **k): raise RuntimeError('bug')\n    warning = info\n"
        "    def error(self, *a, **k): pass\n"
        "from supervisor.settings import Settings, Pool\n"
        "s = Settings(pools=(Pool(name='default', queues=('default',)),))\n"
        "sys.exit(master.run(s, load=lambda: s, config_path='x', notifier=Notifier(None), log=Log()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(STUBS.parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=20, check=False).returncode == 70
