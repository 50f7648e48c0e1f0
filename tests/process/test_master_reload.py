"""SIGHUP with real processes: good, bad in every way, and again."""

from __future__ import annotations

import os
import signal

from tests.process.conftest import StartMaster
from tests.process.masters import RunningMaster
from tests.support.waiting import eventually


def settled(master: RunningMaster, generation: int, count: int = 2) -> None:
    eventually(lambda: any(event["generation"] == generation for event in master.events("reloaded")), 20)
    eventually(lambda: len(master.workers(generation)) == len(master.workers()) == count)


def test_a_reload_replaces_every_worker_and_capacity_never_falls(start_master: StartMaster) -> None:
    master = start_master(pool={"processes": 3})
    before = master.await_ready(3)
    master.signal(signal.SIGHUP)
    settled(master, 2, 3)
    assert not set(before.values()) & set(master.workers().values())
    living: set[int] = set()
    capacity = []
    for event in master.events():
        if event["event"] == "worker ready":
            living.add(event["pid"])
            capacity.append(len(living))
        elif event["event"] == "worker gone":
            living.discard(event["pid"])
            capacity.append(len(living))
    assert min(capacity[3:]) >= 3


def test_a_reload_waits_for_no_job_and_disturbs_none(start_master: StartMaster) -> None:
    master = start_master()
    before = master.await_ready()
    for pid in before.values():
        master.job(pid)
    master.signal(signal.SIGHUP)
    eventually(lambda: master.events("reloaded"))
    gone = [event["pid"] for event in master.events("worker gone")]
    assert not set(gone) & set(before.values())
    for pid in before.values():
        (master.folder / f"job-{pid}").unlink()
    settled(master, 2)
    assert all((master.folder / f"term-{pid}").read_text() == "1" for pid in before.values())
    assert {event["cause"] for event in master.events("worker gone")} == {"exited"}


def test_settings_that_cannot_be_read_change_nothing(start_master: StartMaster) -> None:
    master = start_master()
    before = master.await_ready()
    master.config.write_text('{"pools": 7}')
    master.signal(signal.SIGHUP)
    master.await_event("reload failed")
    assert master.workers() == before
    master.configure()
    master.signal(signal.SIGHUP)
    settled(master, 2)


def test_another_server_is_refused(start_master: StartMaster) -> None:
    master = start_master()
    before = master.await_ready()
    master.configure(redis={"url": "redis://127.0.0.1:2"})
    master.signal(signal.SIGHUP)
    assert "restart" in master.await_event("reload failed")["error"]
    assert master.workers() == before


def test_a_redis_that_refuses_the_new_settings_changes_nothing(start_master: StartMaster) -> None:
    """The new steward asks before any worker is swapped; the old one never leaves."""
    master = start_master()
    before = master.await_ready()
    steward = master.await_role("steward")
    (master.folder / "refused").write_text("Redis answered: WRONGPASS")
    master.signal(signal.SIGHUP)
    assert "WRONGPASS" in master.await_event("reload failed")["error"]
    assert master.workers() == before
    assert master.role("steward") == steward
    eventually(lambda: [e["role"] for e in master.events("role gone")].count("steward") == 1)
    assert not [e for e in master.events("worker ready") if e["generation"] != 1]
    (master.folder / "refused").unlink()
    master.signal(signal.SIGHUP)
    settled(master, 3)
    assert len(master.events("reload failed")) == 1


def test_a_candidate_is_told_of_no_death_before_it_serves(start_master: StartMaster) -> None:
    """It knows nothing of the handlers' policies yet: the old steward recovers meanwhile."""
    master = start_master()
    before = master.await_ready()
    (master.folder / "slow_handlers.py").write_text(
        "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    )
    master.configure(handlers=["slow_handlers"])
    master.signal(signal.SIGHUP)
    eventually(lambda: len([e for e in master.events("role started") if e["role"] == "steward"]) == 2)
    os.kill(before["default/0"], signal.SIGKILL)
    master.replaced("default/0", before["default/0"])
    eventually(lambda: master.told("died"))
    assert {message["generation"] for message in master.told("died")} == {1}
    assert not [message for message in master.told() if message["generation"] == 2]
    (master.folder / "go").touch()
    settled(master, 2)
    eventually(lambda: [m for m in master.told("serve") if m["generation"] == 2])


def test_code_that_does_not_import_is_logged_and_the_old_code_stays(start_master: StartMaster) -> None:
    master = start_master()
    before = master.await_ready()
    (master.folder / "broken_handlers.py").write_text("raise ZeroDivisionError('on import')")
    master.configure(handlers=["broken_handlers"])
    master.signal(signal.SIGHUP)
    assert "on import" in master.await_event("reload failed")["error"]
    assert master.workers() == before
    os.kill(before["default/0"], signal.SIGKILL)
    master.replaced("default/0", before["default/0"])
    assert set(master.workers()) == set(master.workers(1))


def test_the_first_bad_boot_rolls_back_and_a_later_good_reload_succeeds(start_master: StartMaster) -> None:
    master = start_master()
    before = master.await_ready()
    (master.folder / "boot-2").write_text("fail")
    master.signal(signal.SIGHUP)
    assert "does not boot" in master.await_event("reload rolled back")["error"]
    assert master.workers() == before
    master.signal(signal.SIGHUP)
    settled(master, 3)
    assert len(master.events("worker failed to start")) == 1


def test_a_second_hup_wins_over_the_first(start_master: StartMaster) -> None:
    master = start_master()
    master.await_ready()
    master.signal(signal.SIGHUP)
    eventually(lambda: master.events("reload"))
    master.signal(signal.SIGHUP)
    settled(master, 3)


def test_roles_follow_their_settings(start_master: StartMaster) -> None:
    """The steward is replaced with overlap, the exporter only if what it shows has changed, old forkservers leave."""
    master = start_master()
    master.await_ready()
    steward, exporter = (master.await_role(name) for name in ("steward", "exporter"))
    master.signal(signal.SIGHUP)
    settled(master, 2)
    eventually(lambda: any(e["pid"] == steward for e in master.events("role gone")))
    assert master.await_role("steward") != steward
    assert master.role("exporter") == exporter
    ready = next(
        event for event in master.events("role ready") if event["role"] == "steward" and event["generation"] == 2
    )
    gone = next(event for event in master.events("role gone") if event["pid"] == steward)
    assert ready["at"] < gone["at"]
    master.configure(pool={"processes": 1})
    master.signal(signal.SIGHUP)
    settled(master, 3, 1)
    master.await_role("exporter", other_than=(exporter,))
    forkservers = [e["generation"] for e in master.events("role gone") if e["role"] == "forkserver"]
    eventually(lambda: [e["generation"] for e in master.events("role gone") if e["role"] == "forkserver"] == [1, 2])
    assert 3 not in forkservers


def test_pools_may_come_and_go(start_master: StartMaster) -> None:
    master = start_master()
    master.await_ready()
    master.configure(pools=[{"name": "mail", "processes": 1, "queues": ["mail"]}])
    master.signal(signal.SIGHUP)
    settled(master, 2, 1)
    assert list(master.workers()) == ["mail/0"]
