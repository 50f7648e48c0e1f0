"""Managed Redis: commands and rights are missing. jqd works all the same, slower where it must be, and says so."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.jqd import job, leftovers, push
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

RIGHTS = {
    "no CONFIG": ["-config"],
    "no INFO": ["-info", "-config"],
    "no CLIENT": ["-client"],
    "neither": ["-client", "-info", "-config", "-role", "-@dangerous"],
}


@pytest.mark.parametrize("missing", RIGHTS)
def test_missing_rights_cost_speed_at_most(jqd: NewJqd, server: Server, missing: str) -> None:
    client = server.client()
    client.execute_command("ACL", "SETUSER", "jobs", "on", ">secret", "~*", "&*", "+@all", *RIGHTS[missing])
    pools = [{"name": "default", "processes": 1, "queues": ["a", "b", "c"]}]
    one = jqd(url=server.url.replace("unix://", "unix://jobs:secret@"), pools=pools)
    for queue in ("a", "b", "c"):
        begun = time.monotonic()
        push(client, job("note", {"name": queue}), queue=queue)
        eventually(lambda: queue in one.names("note"))  # noqa: B023
        assert time.monotonic() - begun < 10
    push(client, job("sleep", {"name": "x", "seconds": 30}), queue="b")
    eventually(lambda: one.runs("sleep"))
    for pid in one.pids("worker"):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(one.runs("sleep")) == 2)
    if missing != "no CONFIG":
        assert "not permitted" in one.text()
    one.send(signal.SIGTERM)
    assert one.stop() == 0
    assert set(leftovers(client)) <= {"jq:{a}:next", "jq:{b}:next", "jq:{c}:next"}
