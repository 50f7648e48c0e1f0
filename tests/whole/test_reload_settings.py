"""SIGHUP with settings that concern every process: where the log goes, and with which credentials Redis is spoken to."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.jqd import Jqd, job, leftovers, push, stats
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

pytestmark = pytest.mark.timeout(120)  # several processes of a whole jqd start and end in each

RIGHTS = ("~*", "&*", "+@all")


def user(server: Server, *rules: str) -> redis.Redis[Any]:
    """The server's user `jobs`, made or changed."""
    client = server.client()
    client.execute_command("ACL", "SETUSER", "jobs", "on", *rules)
    return client


def url(server: Server, password: str) -> str:
    return f"unix://jobs:{password}@{server.socket_path}"


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log file; lines in another form are left out."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def reload_counts(it: Jqd) -> dict[str, str]:
    with urllib.request.urlopen(f"http://{it.config['http']['listen']}/metrics", timeout=10) as answer:
        found = [line for line in answer.read().decode().splitlines() if line.startswith("jobqueue_reload_total{")]
    return {line.split('"')[1]: line.split()[-1] for line in found}


def under_load(jqd: NewJqd, server: Server, password: str) -> Jqd:
    it = jqd(url=url(server, password), http={"listen": f"127.0.0.1:{free_port()}"})
    push(server.client(), *(job("sleep", {"name": str(n), "seconds": 0.02}) for n in range(150)))
    eventually(lambda: it.runs("slept"))
    return it


FAULTS = {"wrong password": "WRONGPASS", "no right to the keys": "NOPERM", "a password nobody asks for": "ERR AUTH"}


@pytest.mark.parametrize("fault", FAULTS)
def test_credentials_that_do_not_work_change_nothing(jqd: NewJqd, server: Server, fault: str) -> None:
    """Under load, with a job that runs all the while: the same processes go on, one line says why, and it is counted."""
    client = user(server, ">right-one", *RIGHTS)
    client.execute_command("ACL", "SETUSER", "poor", "on", ">right-one", "~other:*", "+@all")
    it = under_load(jqd, server, "right-one")
    push(client, job("sleep", {"name": "long", "seconds": 2}))
    eventually(lambda: "long" in it.names("sleep"))
    before = {name: sorted(it.pids(name)) for name in ("worker", "steward", "forkserver", "exporter")}
    good = it.url
    it.url = {
        "wrong password": url(server, "wr0ng"),
        "no right to the keys": good.replace("jobs:", "poor:"),
        "a password nobody asks for": f"unix://:needless@{server.socket_path}",
    }[fault]
    it.configure(http=it.config["http"])
    it.send(signal.SIGHUP)
    [end] = eventually(lambda: it.events("reload failed"), 20)
    assert FAULTS[fault] in end["error"]
    eventually(lambda: {name: sorted(it.pids(name)) for name in before} == before)
    assert len([line for line in it.text().splitlines() if FAULTS[fault] in line]) == 1
    eventually(lambda: reload_counts(it).get("failed") == "1.0")
    eventually(lambda: len(it.runs("slept")) == 151, 30)
    assert it.names("sleep").count("long") == 1
    it.url = good
    it.configure(http=it.config["http"])
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 20)
    push(client, job("note", {"name": "after"}))
    eventually(lambda: it.names("note"))
    assert it.stop() == 0
    assert leftovers(client) == {}
    assert not {"right-one", "wr0ng"} & set(it.text().replace(":", " ").replace("@", " ").split())


def test_new_credentials_take_over_when_the_old_are_already_gone(jqd: NewJqd, server: Server) -> None:
    """A rotation in the wrong order: everybody is thrown out first, then the file learns the new password."""
    client = user(server, ">old-one", *RIGHTS)
    it = under_load(jqd, server, "old-one")
    client.execute_command("ACL", "SETUSER", "jobs", "<old-one", ">new-one")
    client.client_kill_filter(user="jobs")
    it.url = url(server, "new-one")
    it.configure(http=it.config["http"])
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 20)
    eventually(lambda: len(it.runs("slept")) >= 150, 30)
    assert sorted(set(it.names("slept"))) == sorted(map(str, range(150)))
    eventually(lambda: stats(client)["processed"] == 150, 20, what="what the old workers could not settle is recovered")
    assert it.stop() == 0
    assert leftovers(client) == {}


def test_a_reload_while_redis_is_away_goes_through(jqd: NewJqd, server: Server) -> None:
    """Nobody can say that the credentials are wrong, so new code is not held up by an outage."""
    it = jqd()
    server.kill()
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 30)
    server.start()
    push(server.client(), job("note", {"name": "after"}))
    eventually(lambda: it.names("note"), 15)
    assert it.stop() == 0


def test_log_settings_are_those_of_the_file_in_every_process_after_a_reload(jqd: NewJqd, server: Server) -> None:
    """Another file, level and form; then back to standard error. Handlers' own lines follow too."""
    handlers = "import logging\nfrom jobqueue import handler\n@handler('say')\ndef say(word: str):\n    logging.getLogger('h').debug(word)\n    logging.getLogger('h').warning(word)\n"
    it = jqd(start=False)
    (it.folder / "handlers.py").write_text(handlers)
    it.start()
    client = server.client()
    new = it.folder / "new.log"
    it.configure(log={"format": "json", "level": "debug", "file": "new.log"})
    it.send(signal.SIGHUP)
    eventually(lambda: any(line["event"] == "reloaded" for line in lines(new)), 20)
    eventually(lambda: len(it.pids("steward")) == len(it.pids("forkserver")) == 1 and len(it.pids("worker")) == 2)
    old = it.text()
    push(client, job("say", {"word": "first"}))
    eventually(lambda: {line["level"] for line in lines(new) if line["event"] == "first"} == {"debug", "warning"})
    [worker] = {line["pid"] for line in lines(new) if line["event"] == "first"}
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: {line["role"] for line in lines(new)} >= {"master", "worker", "steward"})
    assert it.text() == old, "nothing more goes to the old place"
    before = {*it.pids("worker"), *it.pids("steward")}
    it.configure(log={"format": "pretty", "level": "warning"})
    it.send(signal.SIGHUP)
    eventually(
        lambda: not before & {*it.pids("worker"), *it.pids("steward")} and it.titles("worker default/1 idle"), 20
    )
    length = new.stat().st_size
    push(client, job("say", {"word": "second"}))
    eventually(lambda: "warning worker" in it.text() and "second" in it.text(), 15)
    assert "debug" not in it.text()[len(old) :]
    assert "reloaded" not in it.text()[len(old) :], "it is below the level"
    assert new.stat().st_size == length
    assert it.stop() == 0


def test_the_master_ignores_log_settings_of_a_reload_that_failed(jqd: NewJqd) -> None:
    it = jqd()
    it.configure(log={"format": "json", "file": "new.log"}, handlers=["missing_module"])
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reload failed"), 20)
    assert not (it.folder / "new.log").exists() or not lines(it.folder / "new.log")
    it.send(signal.SIGUSR2)
    eventually(lambda: it.events("state"))


def test_a_log_file_that_cannot_be_opened_is_told_where_it_is_seen(jqd: NewJqd, server: Server) -> None:
    it = jqd()
    it.configure(log={"format": "json", "file": "no/such/folder/log"})
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 20)
    assert any(line["role"] == "master" for line in it.events("the log file cannot be used"))
    push(server.client(), job("note", {"name": "on"}))
    eventually(lambda: it.names("note"))
    assert it.stop() == 0
