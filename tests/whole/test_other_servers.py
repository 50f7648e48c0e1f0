"""A whole jqd on each server there is: the system's Redis, and what `make servers` brings (Redis 6.2 and 8, Valkey 8)."""

from __future__ import annotations

import os
import signal

import pytest
import redis

from tests.conftest import NewServer
from tests.support.jqd import job, leftovers, nothing_waits, push, stats
from tests.support.servers import debian_binary, further_binaries
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

pytestmark = pytest.mark.timeout(120)  # several processes of a whole jqd start and end in each


@pytest.mark.parametrize("name", ["debian", *(further_binaries() or ["further"])])
def test_jobs_of_every_end_a_crash_a_reload_and_a_full_memory(name: str, jqd: NewJqd, new_server: NewServer) -> None:
    binary = debian_binary() if name == "debian" else further_binaries().get(name)
    if binary is None:
        pytest.skip(f"no {name} server: make servers" if name == "further" else f"no {name} server")
    server = new_server(binary=binary, appendonly=True)
    client = server.client()
    it = jqd(url=server.url, queues={"default": {"max_attempts": 2}})
    push(client, *(job("note", {"name": f"n{i}"}) for i in range(100)))
    push(client, job("fail", {"name": "f"}), job("skip", {"name": "s"}), job("discard", {"name": "d"}))
    push(client, job("sleep", {"name": "long", "seconds": 1}))
    eventually(lambda: "long" in it.names("sleep"), 20)
    worker = int(it.runs("sleep")[0][2])
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: "long" in it.names("slept"), 20)
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 20)
    eventually(lambda: client.zcard("jq:{default}:dead") == 2 and nothing_waits(client), 20)
    assert sorted(it.names("note")) == sorted(f"n{i}" for i in range(100))
    assert len(it.names("fail")) == 2
    push(client, *(job("noop", fill="x" * 1000) for _ in range(500)))
    client.config_set("maxmemory", 1)  # less than there is: every write but a freeing one is refused
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        push(client, job("noop"))
    worker = it.pids("worker")[0]
    os.kill(worker, signal.SIGKILL)  # its successor must join, and the steward recover
    eventually(lambda: nothing_waits(client), 20, what="the queue drains while memory is full")
    eventually(lambda: len([t for t in it.titles("worker") if "idle" in t]) == 2, 20)
    client.config_set("maxmemory", 0)
    push(client, job("note", {"name": "after"}))
    eventually(lambda: "after" in it.names("note"), 20)
    assert stats(client)["dead"] == 2
    assert it.stop() == 0
    assert leftovers(client) == {}
