"""`jqctl cron`: what the file says, when it ticked last and ticks next, and one entry now."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from tests.process.test_ctl import Ctl, ctl  # noqa: F401 - a fixture

DAY = 86_400_000
FILE = """
queues: {notes: {key: jobs, codec: raw, handler: note}}
cron:
  nightly: {schedule: "0 3 * * *", type: report, payload: {days: 1}, unique: nightly, max_attempts: 3}
  berlin: {schedule: "@hourly", type: report, timezone: Europe/Berlin}
  raw: {schedule: "@daily", type: note, payload: "hello \\e[2J"}
"""


def three_o_clock(ctl: Ctl, days_ago: int) -> int:  # noqa: F811
    now = datetime.fromtimestamp(ctl.client.time()[0], UTC)
    at = now.replace(hour=3, minute=0, second=0, microsecond=0)
    return int((at - timedelta(days=days_ago + (at > now))).timestamp()) * 1000


def test_ls_tells_when_each_ticked_last_and_ticks_next(ctl: Ctl) -> None:  # noqa: F811
    config, last = ctl.config(FILE), three_o_clock(ctl, 2)
    ctl.client.set("jq:{default}:cron:nightly", f"{last} 0 3 * * * UTC")
    ctl.client.set("jq:{default}:cron:berlin", f"{last + 1} 0 * * * * Europe/Berlin")
    found = {one["name"]: one for one in ctl.json("-c", config, "cron", "ls")}
    assert found["nightly"] == {
        "name": "nightly", "schedule": "0 3 * * *", "timezone": "UTC", "type": "report", "queue": "default",
        "last_tick": last, "next_tick": three_o_clock(ctl, -1),
    }  # fmt: skip
    assert found["berlin"]["last_tick"] is None, "no tick, but the moment from which on it counts"
    assert 0 < found["berlin"]["next_tick"] - ctl.client.time()[0] * 1000 <= 3_601_000
    assert (found["raw"]["queue"], found["raw"]["last_tick"]) == ("notes", None)
    shown = ctl("-c", config, "cron", "ls")
    assert all(word in shown for word in ("nightly", "0 3 * * *", "Europe/Berlin", "03:00:00Z", "in "))


def test_run_enqueues_the_job_now_and_leaves_the_schedule_alone(ctl: Ctl) -> None:  # noqa: F811
    config = ctl.config(FILE)
    job_id = ctl("-c", config, "cron", "run", "nightly").strip()
    shown = ctl.json("show", job_id)
    assert (shown["type"], shown["payload"], shown["unique"], shown["max_attempts"]) == (
        "report",
        {"days": 1},
        "nightly",
        3,
    )
    assert shown["headers"]["cron"] == "nightly"
    assert datetime.fromisoformat(shown["headers"]["tick"]).utcoffset() == timedelta(0)
    assert ctl.json("-c", config, "cron", "run", "nightly") == {"id": job_id, "duplicate": True}
    assert ctl.client.keys("*cron*") == []
    ctl("-c", config, "cron", "run", "raw")
    assert ctl.client.lrange("jobs", 0, -1) == [b"hello \x1b[2J"]


def test_an_entry_that_is_not_there_and_a_file_that_is_not_given(ctl: Ctl) -> None:  # noqa: F811
    done = ctl.run("-c", ctl.config(FILE), "cron", "run", "nigthly")
    assert (done.returncode, "there are: nightly, berlin, raw" in done.stderr) == (1, True)
    (ctl.folder / "jobqueue.yaml").unlink()
    done = ctl.run("cron", "ls")
    assert (done.returncode, "use -c FILE" in done.stderr) == (2, True)
    done = ctl.run("-c", ctl.config("cron: {a: {schedule: x, type: t}}"), "cron", "ls")
    assert (done.returncode, "cron.a.schedule: found 'x'" in done.stderr) == (2, True)


def test_no_entries_are_an_empty_list(ctl: Ctl) -> None:  # noqa: F811
    assert json.loads(ctl("-c", ctl.config(), "cron", "ls", "--json")) == []
