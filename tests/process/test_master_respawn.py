"""Real processes and signals: what dies is replaced, what hangs is killed, and the steward hears of it."""

from __future__ import annotations

import os
import signal
import time

from tests.process.conftest import StartMaster
from tests.support.waiting import eventually


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_worker_is_replaced_at_once_in_its_slot_and_the_steward_is_told(start_master: StartMaster) -> None:
    master = start_master()
    before = master.await_ready()
    master.await_role("steward")
    killed = time.monotonic()
    os.kill(before["default/0"], signal.SIGKILL)
    after = master.replaced("default/0", before["default/0"])
    assert after["default/1"] == before["default/1"]
    ready = master.events("worker ready")[-1]
    assert ready["at"] - killed < 1.0
    death = eventually(lambda: master.told("died"))[0]
    assert death["cause"] == "crashed"
    assert death["detail"] == "signal SIGKILL"
    assert death["row"]["pid"] == before["default/0"]


def test_a_death_in_a_job_is_told_with_the_row_as_it_was(start_master: StartMaster) -> None:
    master = start_master()
    pid = master.await_ready()["default/0"]
    master.job(pid)
    os.kill(pid, signal.SIGKILL)
    death = eventually(lambda: master.told("died"))[0]
    assert death["row"]["number"] == 1
    assert death["row"]["start_ns"] > 0


def test_soft_limit_aborts_once_hard_limit_kills_the_group(start_master: StartMaster) -> None:
    master = start_master()
    pid = master.await_ready()["default/0"]
    master.job(pid, soft=0.3, hard=0.8, ending="ignore")
    gone = master.await_event("worker gone")
    (abort,) = master.events("abort")
    assert abort["cause"] == "timeout"
    assert (master.folder / f"abort-{pid}").read_text() == "1"
    assert gone["cause"] == "hard_limit"
    assert gone["at"] - abort["at"] < 0.5 + 0.3
    assert eventually(lambda: master.told("died"))[0]["cause"] == "hard_limit"


def test_an_aborted_job_that_obeys_costs_no_worker(start_master: StartMaster) -> None:
    master = start_master()
    workers = master.await_ready()
    master.job(workers["default/0"], soft=0.1, hard=5, ending="obey")
    eventually((master.folder / f"abort-{workers['default/0']}").exists)
    eventually(lambda: not (master.folder / f"job-{workers['default/0']}").exists())
    assert master.workers() == workers


def test_recycling_is_respawned_at_once(start_master: StartMaster) -> None:
    master = start_master()
    pid = master.await_ready()["default/1"]
    (master.folder / f"exit-{pid}").write_text("0")
    assert master.await_event("worker gone")["cause"] == "exited"
    master.replaced("default/1", pid)
    assert eventually(lambda: master.told("died"))[0]["cause"] == "exited"


def test_a_boot_that_hangs_is_killed_at_its_deadline(start_master: StartMaster) -> None:
    master = start_master()
    pid = master.await_ready()["default/0"]
    master.configure(pool={"start_timeout": 0.5})
    (master.folder / "boot-2").write_text("hang")
    master.signal(signal.SIGHUP)
    assert master.await_event("kill")["cause"] == "boot"
    master.await_event("reload rolled back")
    assert master.workers()["default/0"] == pid


def test_a_steward_that_dies_or_falls_silent_is_replaced_and_no_worker_notices(start_master: StartMaster) -> None:
    master = start_master()
    workers = master.await_ready()
    first = master.await_role("steward")
    os.kill(first, signal.SIGKILL)
    second = master.await_role("steward", other_than=(first,))
    (master.folder / "silent-steward").touch()
    assert master.await_event("role killed")["cause"] == "silent"
    (master.folder / "silent-steward").unlink()
    master.await_role("steward", other_than=(first, second))
    assert master.workers() == workers


def test_deaths_wait_for_a_steward(start_master: StartMaster) -> None:
    master = start_master()
    pid = master.await_ready()["default/0"]
    steward = master.await_role("steward")
    os.kill(steward, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    master.await_event("worker gone")
    os.kill(steward, signal.SIGKILL)
    death = eventually(lambda: master.told("died"))[0]
    assert death["steward"] != steward


def test_a_forkserver_that_dies_is_replaced_and_its_workers_live_on(start_master: StartMaster) -> None:
    master = start_master()
    workers = master.await_ready()
    forkserver = master.role("forkserver")
    os.kill(forkserver, signal.SIGKILL)
    master.await_role("forkserver", other_than=(forkserver,))
    assert master.workers() == workers
    os.kill(workers["default/0"], signal.SIGKILL)
    master.replaced("default/0", workers["default/0"])


def test_nobody_is_killed_because_the_master_was_stopped(start_master: StartMaster) -> None:
    master = start_master()
    workers = master.await_ready()
    roles = {name: master.await_role(name) for name in ("steward", "exporter", "forkserver")}
    master.signal(signal.SIGSTOP)
    time.sleep(6.0)  # longer than a silence may last
    master.signal(signal.SIGCONT)
    master.await_event("the machine or the master was stopped")
    seen = len((master.folder / "steward.jsonl").read_text())
    os.kill(workers["default/0"], signal.SIGKILL)
    eventually(lambda: len((master.folder / "steward.jsonl").read_text()) > seen)
    assert {name: master.role(name) for name in roles} == roles
    assert master.events("role killed") == []


def test_one_worker_more_and_less(start_master: StartMaster) -> None:
    master = start_master()
    master.await_ready()
    master.signal(signal.SIGTTIN)
    master.await_ready(3)
    master.signal(signal.SIGTTOU)
    eventually(lambda: len(master.workers()) == 2)
    assert sorted(master.workers()) == ["default/0", "default/1"]


def test_grandchildren_die_with_their_worker(start_master: StartMaster) -> None:
    master = start_master()
    pid = master.await_ready()["default/0"]
    (master.folder / f"child-{pid}").write_text("spawn")
    child = int(eventually(lambda: (f := master.folder / f"child-of-{pid}").exists() and f.read_text()))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(child))


def test_workers_that_cannot_be_forked_are_fresh_interpreters(start_master: StartMaster) -> None:
    master = start_master(pool={"preload": False})
    before = master.await_ready()
    os.kill(before["default/1"], signal.SIGKILL)
    master.replaced("default/1", before["default/1"])


def test_usr2_logs_every_role_and_slot_and_what_it_runs(start_master: StartMaster) -> None:
    master = start_master()
    workers = master.await_ready()
    master.job(workers["default/0"])
    master.await_role("steward")
    master.signal(signal.SIGUSR2)
    eventually(lambda: {"worker", "forkserver", "steward"} <= {event.get("role") for event in master.events("state")})
    states = {event["pid"]: event for event in master.events("state")}
    assert states[workers["default/0"]]["type"] == "stub"
    assert "type" not in states[workers["default/1"]]
    assert master.workers() == workers


def test_usr1_reopens_the_log_and_kills_nobody(start_master: StartMaster) -> None:
    master = start_master()
    workers = master.await_ready()
    master.signal(signal.SIGUSR1)
    master.await_event("reopened")
    assert master.workers() == workers
