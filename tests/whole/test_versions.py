"""Two versions of jqd on one Redis, and new code under a running master: nothing crashes, nothing is burned, what is newer waits.

The newer version is a copy of this one whose envelopes have the next version number and a field more, and whose scoreboard, where
a test says so, has another layout.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.jqd import ROOT, Jqd, job, leftovers, push, stats
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

pytestmark = pytest.mark.timeout(120)  # several processes of a whole jqd start and end in each


def patch(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has changed: adapt this test"
    beside = path.with_suffix(".new")
    beside.write_text(text.replace(old, new))
    when = (
        path.stat().st_mtime_ns + 2_000_000_000
    )  # or the compiled file of the same second and size would still be taken
    os.utime(beside, ns=(when, when))
    beside.rename(path)


def copy(folder: Path) -> Path:
    """A copy of this version that imports nothing of the original."""
    for package in ("jobqueue", "supervisor"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """Folder of a version from the future."""
    folder = copy(tmp_path / "newer")
    patch(folder / "jobqueue" / "job.py", "VERSION = 1 ", "VERSION = 2 ")
    patch(folder / "jobqueue" / "job.py", '    unique: str = ""\n', '    unique: str = ""\n    color: str = ""\n')
    patch(folder / "jobqueue" / "draft.py", "        v=VERSION,\n", '        v=VERSION,\n        color="blue",\n')
    return folder


def jqd_of(jqd: NewJqd, code: Path, queue: str = "default") -> Jqd:
    """Of that code, not of the tests'."""
    it = jqd(start=False, pools=[{"name": "default", "processes": 1, "queues": [queue]}])
    it.environment = {"PYTHONPATH": str(code)}
    it.start()
    return it


def enqueue(code: Path, url: str, *jobs: tuple[str, dict[str, object]]) -> None:
    """As a producer with that code."""
    script = (
        "import json, sys, jobqueue\n"
        "q = jobqueue.JobQueue(sys.argv[1])\n"
        "for type_, payload in json.loads(sys.argv[2]): q.enqueue(type_, payload)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(code)}
    command = [sys.executable, "-P", "-c", script, url, json.dumps(jobs)]
    subprocess.run(command, env=environment, check=True, timeout=30)


def test_what_is_newer_waits_for_a_newer_jqd_and_no_attempt_is_burned(jqd: NewJqd, server: Server, newer: Path) -> None:
    client = server.client()
    old = jqd(pools=[{"name": "default", "processes": 1, "queues": ["default"]}])
    enqueue(newer, server.url, ("note", {"name": "new"}))
    push(client, job("note", {"name": "plain"}))
    eventually(lambda: client.zcard("jq:{default}:scheduled") == 1 and old.names("note") == ["plain"], 20)
    [waiting] = client.zrange("jq:{default}:scheduled", 0, -1)
    seen = json.loads(waiting)
    assert (seen["v"], seen["color"], seen.get("attempt", 0)) == (2, "blue", 0)
    assert client.zcard("jq:{default}:dead") == 0
    client.zadd("jq:{default}:scheduled", {waiting: 1})  # as if its ten seconds were over, several times
    eventually(lambda: client.zscore("jq:{default}:scheduled", waiting) != 1, 10)
    future = jqd_of(jqd, newer)
    assert old.stop() == 0
    hurry(client)
    eventually(lambda: future.names("note") == ["new"], 20)
    push(client, job("note", {"name": "plain too"}))
    eventually(lambda: len(future.names("note")) == 2, 10)
    assert future.stop() == 0
    assert stats(client)["processed"] == 3
    assert leftovers(client) == {}


def test_both_at_work_share_a_queue_and_recover_each_other(jqd: NewJqd, server: Server, newer: Path) -> None:
    """A rollback in the middle of things: the newer one is killed with a newer job at work, the old one puts that back unread."""
    client = server.client()
    future = jqd_of(jqd, newer)
    old = jqd(pools=[{"name": "default", "processes": 1, "queues": ["other", "default"]}])
    push(client, *(job("sleep", {"name": str(n), "seconds": 0.01}) for n in range(100)))
    eventually(lambda: len(old.runs("slept")) + len(future.runs("slept")) == 100, 30)
    assert old.runs("slept") and future.runs("slept"), "both had a share"
    enqueue(newer, server.url, ("sleep", {"name": "long", "seconds": 60}))
    eventually(
        lambda: "long" in future.names("sleep") or hurry(client),
        30,
        every=0.1,
        what="the newer one takes it, however often the old one has put it off",
    )
    future.kill_tree()
    eventually(lambda: client.zcard("jq:{default}:scheduled") == 1, 20, what="recovered, and put off by the old one")
    [waiting] = client.zrange("jq:{default}:scheduled", 0, -1)
    assert (json.loads(waiting)["color"], json.loads(waiting).get("attempt", 0)) == ("blue", 0)
    assert old.stop() == 0
    again = jqd_of(jqd, newer)
    eventually(lambda: "long" in again.names("sleep") or hurry(client), 20, every=0.1)
    assert {event["cause"] for event in old.events("worker gone")} == {"exited"}
    assert client.zcard("jq:{default}:dead") == 0


def hurry(client: redis.Redis[Any]) -> None:
    """Have what is put off be due now."""
    for member in client.zrange("jq:{default}:scheduled", 0, -1):
        client.zadd("jq:{default}:scheduled", {member: 1})


def test_a_hup_onto_code_with_another_scoreboard_is_refused_with_words(
    jqd: NewJqd, server: Server, tmp_path: Path
) -> None:
    """The files of jqd itself were replaced under a running master: it says what to do, and the old workers go on."""
    code = copy(tmp_path / "code")
    it = jqd_of(jqd, code)
    before = it.pids("worker")
    patch(code / "supervisor" / "scoreboard.py", 'b"jqd board 1', 'b"jqd board 2')
    it.send(signal.SIGHUP)
    [end] = eventually(lambda: it.events("reload failed"), 20)
    assert end["error"].endswith("restart jqd instead of reloading") and "Traceback" not in end["error"]
    assert it.pids("worker") == before
    push(server.client(), job("note", {"name": "on"}))
    eventually(lambda: it.names("note"), 10)
    patch(code / "supervisor" / "scoreboard.py", 'b"jqd board 2', 'b"jqd board 1')
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 20)
    assert it.stop() == 0
