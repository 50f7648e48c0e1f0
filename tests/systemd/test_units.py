"""The units under real systemd: what an operator's verbs do, and that no job pays for what goes wrong."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.support.jqd import nothing_waits, stats
from tests.support.waiting import eventually
from tests.systemd.conftest import Unit
from tests.systemd.machine import Machine

pytestmark = pytest.mark.timeout(120)  # a machine boots, and every test starts and stops a service


def test_started_means_that_the_workers_are_ready(unit: Unit) -> None:
    unit.ctl("start")
    unit.ctl("stop")
    (unit.state / "wait").touch()
    unit.ctl("start", "--no-block")
    eventually(
        lambda: [
            e for e in unit.journal("JQD_EVENT=role ready", "JQD_ROLE=forkserver") if e["_PID"] == str(unit.pid())
        ],
        60,
    )
    assert unit.show("ActiveState") == "activating", "workers are still in their start hook"
    (unit.state / "wait").unlink()
    eventually(lambda: unit.show("ActiveState") == "active", 60)
    assert unit.show("StatusText").startswith("ready 2/2, generation 1")


def test_a_good_reload_rolls_and_a_bad_one_changes_nothing_and_says_why(unit: Unit) -> None:
    unit.ctl("start")
    before = unit.workers()
    good = unit.config.read_text()
    unit.config.write_text(good.replace("processes", "procesess"))
    unit.ctl("reload")
    eventually(lambda: "reload failed" in unit.show("StatusText"), 40)
    assert "/etc/jqd/jobqueue.yaml:" in unit.show("StatusText"), "with the line"
    assert unit.show("ActiveState") == "active"
    assert unit.workers() == before
    unit.configure(pools=[{"name": "default", "processes": 3, "queues": ["default"]}])
    unit.ctl("reload")
    eventually(lambda: unit.show("StatusText").startswith("ready 3/3, generation 2"), 60)
    assert "failed" not in unit.show("StatusText")
    assert unit.show("NRestarts") == "0"


@pytest.mark.slow
def test_stop_lets_a_running_job_finish_and_leaves_the_rest_in_the_queue(unit: Unit) -> None:
    unit.ctl("start")
    unit.note(*(f"job{n}" for n in range(5)), seconds=2)
    eventually(lambda: len(unit.runs("begin")) == 2, 40)
    unit.ctl("stop")
    assert unit.show("Result") == "success"
    assert unit.show("ExecMainStatus") == "0"
    assert sorted(unit.runs("begin")) == sorted(unit.runs("end"))
    unit.ctl("start")
    client = unit.client()
    eventually(lambda: len(unit.runs("end")) == 5 and nothing_waits(client), 60)
    assert stats(client) == {"processed": 5}, "each ran once"


@pytest.mark.slow
def test_a_frozen_master_is_replaced_by_the_watchdog(unit: Unit) -> None:
    unit.drop_in("[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n")
    unit.ctl("start")
    unit.note("long", seconds=8)
    eventually(lambda: unit.runs("begin"), 40)
    first = unit.pid()
    unit.kill("STOP")
    eventually(lambda: unit.pid() not in (0, first) and unit.show("ActiveState") == "active", 60)
    assert unit.show("NRestarts") == "1"
    assert any("Watchdog timeout" in e["MESSAGE"] for e in unit.journal())
    eventually(lambda: unit.runs("begin") == ["long", "long"], 40, what="the job runs again")


@pytest.mark.slow
def test_a_killed_master_is_back_and_nothing_is_lost(unit: Unit) -> None:
    unit.ctl("start")
    names = [f"job{n}" for n in range(60)]
    unit.note(*names, seconds=0.1)
    eventually(lambda: len(unit.runs("end")) > 5, 40)
    first = unit.pid()
    unit.kill("KILL")
    eventually(lambda: unit.pid() not in (0, first) and unit.show("ActiveState") == "active", 60)
    client = unit.client()
    eventually(lambda: set(unit.runs("end")) == set(names) and nothing_waits(client), 30)
    assert stats(client)["processed"] == len(names)
    again = {name: n for name, n in Counter(unit.runs("begin")).items() if n > 1}
    assert len(again) <= 2, f"only what was running may run again: {again}"
    unit.ctl("stop")
    assert unit.show("ExecMainStatus") == "0", "75 would mean that something stayed in a processing list"


@pytest.mark.slow
def test_a_second_instance_of_the_template_lives_beside_the_first(unit: Unit, second: Unit) -> None:
    unit.ctl("start")
    second.ctl("start")
    second.note("one")
    eventually(lambda: second.runs("end"), 40)
    assert stats(unit.client()) == {}
    assert stats(second.client()) == {"processed": 1}
    unit.ctl("stop")
    assert second.show("ActiveState") == "active"
    assert second.show("StatusText").startswith("ready 2/2")


def test_the_journal_has_our_fields(unit: Unit) -> None:
    unit.ctl("start")
    unit.note("one")
    [entry] = eventually(lambda: unit.journal("JQD_LOGGER=app"), 40)
    assert entry["MESSAGE"].startswith("worker: noting one")
    assert entry["PRIORITY"] == "4"
    assert entry["JQD_SLOT"] in ("default/0", "default/1")
    assert entry["JQD_TYPE"] == "note"
    assert entry["JQD_JOB"] == "one"
    assert eventually(lambda: [e for e in unit.journal("_TRANSPORT=stdout") if e["MESSAGE"] == "printed one"], 40)
    unit.machine.run("kill", "-9", unit.workers()[0])
    [gone] = eventually(lambda: unit.journal("JQD_EVENT=worker gone"), 40)
    assert gone["JQD_CAUSE"] == "crashed"


@pytest.mark.parametrize("name", ["jqd.service", "jqd@two.service"])
def test_the_hardening_is_at_most_2_of_10(machine: Machine, name: str) -> None:
    verdict = (
        machine.run("systemd-analyze", "security", "--no-pager", name, check=False).stdout.strip().splitlines()[-1]
    )
    figure = float(verdict.split(":")[1].split()[0])
    assert figure <= 2.0, verdict
    assert machine.run("systemd-analyze", "verify", name, check=False).stderr == ""


def test_everything_works_under_the_hardening(unit: Unit) -> None:
    unit.configure(pools=[{"name": "default", "processes": 1, "queues": ["default"], "nice": 5, "max_memory": "1GiB"}])
    unit.ctl("start")
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    eventually(lambda: unit.machine.run(*curl, "http://127.0.0.1:2112/healthz", check=False).stdout == "200", 60)
    unit.note("one")
    eventually(lambda: unit.runs("end"), 40)
    metrics = unit.machine.run("curl", "-s", "http://127.0.0.1:2112/metrics").stdout
    assert 'jobqueue_jobs_processed_total{queue="default",type="note"} 1.0' in metrics
    assert list(unit.machine.path("/run/jqd").glob("jqd-metrics-*/*.db")), "counted in the RuntimeDirectory"
    assert (unit.state / "redis/appendonlydir").is_dir(), "kept in the StateDirectory"
    [worker] = unit.workers()
    # Under the hardening nobody may become nicer to itself than the whole test run already is.
    assert unit.machine.run("ps", "-o", "ni=", "-p", worker).stdout.strip() == str(max(5, os.nice(0)))
    answer = unit.machine.run(".venv/bin/jqctl", "-c", "/etc/jqd/jobqueue.yaml", "stats").stdout
    assert "default" in answer
    unit.ctl("stop")
    assert not unit.machine.path("/run/jqd").exists()


def test_unusable_settings_are_not_tried_again(unit: Unit) -> None:
    unit.config.write_text("pools: nonsense\n")
    unit.ctl("start", check=False)
    eventually(lambda: unit.show("ActiveState") == "failed", 40)
    assert unit.show("ExecMainStatus") == "78"
    assert unit.show("NRestarts") == "0"
    assert any("jobqueue.yaml:1:" in str(e["MESSAGE"]) for e in unit.journal()), "the journal has the line"
