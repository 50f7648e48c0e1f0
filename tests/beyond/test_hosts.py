"""Many hosts on one Redis: who dies is recovered by the others, who was only cut off is not believed any more, and an outage of Redis
makes nobody recover anybody.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from supervisor.stewardship import LEASE
from tests.beyond.conftest import NewHost
from tests.support.hosts import Host
from tests.support.jqd import ROOT, idle_for, job, leftovers, nothing_waits, push, stats
from tests.support.link import Link
from tests.support.servers import Server
from tests.support.waiting import eventually

ONE = [{"name": "default", "processes": 1, "queues": ["default"]}]


def running_on(one: Host, name: str) -> float:
    """Wait until job `name` runs there; when it began (monotonic)."""
    return float(eventually(lambda: [r for r in one.runs("sleep") if r[1] == name])[-1][3])


def jqctl(url: str, *args: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.ctl", "--addr", url, *args, "--json"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dead_hosts_jobs_are_recovered_by_a_survivor_within_20_s(host: NewHost, server: Server) -> None:
    """However long they would have run; those it had not begun too. A job of the survivor itself is left alone."""
    dying, client = host(), server.client()
    push(client, *(job("sleep", {"name": f"a{n}", "seconds": 60}) for n in range(2)))
    running_on(dying, "a0"), running_on(dying, "a1")
    survivor = host(shutdown={"drain_timeout": "100ms"})
    assert dying.host != survivor.host
    push(client, job("sleep", {"name": "b", "seconds": 60}))
    running_on(survivor, "b")
    seen = jqctl(server.url, "workers")
    assert {w["worker"].split(".")[0] for w in seen} == {dying.host, survivor.host}
    assert len(jqctl(server.url, "stats")["workers"]) == 4
    dying.crash()
    died = time.monotonic()
    eventually(lambda: survivor.names("sleep").count("a0") + survivor.names("sleep").count("a1") >= 1, 25)
    assert time.monotonic() - died < 20
    eventually(lambda: stats(client).get("recovered") == 2)
    assert {w["worker"].split(".")[0] for w in jqctl(server.url, "workers")} == {survivor.host}
    assert survivor.names("sleep").count("b") == 1
    element = client.lrange("jq:{default}:pending", 0, -1) + client.lrange("jq:{default}:next", 0, -1)
    assert all(b"crashes" not in e and b"attempt" not in e for e in element), "nobody is blamed"
    assert survivor.stop() == 0
    assert leftovers(client) == {}


def test_a_host_that_was_only_cut_off_goes_on_under_new_names_and_finalises_nothing_twice(
    host: NewHost, server: Server, link: Link
) -> None:
    cut, client = host(url=link.url), server.client()
    push(client, *(job("sleep", {"name": f"a{n}", "seconds": LEASE + 6}) for n in range(2)))
    running_on(cut, "a0"), running_on(cut, "a1")
    before = {w["worker"] for w in jqctl(server.url, "workers")}
    other = host()
    link.black_hole()
    since = time.monotonic()
    eventually(lambda: len(other.runs("sleep")) == 2, 25)
    assert time.monotonic() - since < 20
    eventually(lambda: len(cut.runs("slept")) == 2, 20)  # late: the others have those jobs
    assert stats(client).get("processed", 0) == 0
    link.heal()
    healed = time.monotonic()
    eventually(lambda: {w["worker"] for w in jqctl(server.url, "workers") if w["worker"].startswith(cut.host)} - before)
    push(client, *(job("sleep", {"name": f"c{n}", "seconds": 0.05}) for n in range(20)))
    eventually(lambda: cut.names("slept").count("c0") or any(n.startswith("c") for n in cut.names("slept")))
    assert time.monotonic() - healed < 20
    assert not before & {w["worker"] for w in jqctl(server.url, "workers")}
    eventually(lambda: stats(client).get("processed") == 22, 25)
    assert nothing_waits(client)
    assert stats(client) == {"processed": 22, "recovered": 2}
    assert client.zcard("jq:{default}:dead") == 0
    assert cut.stop() == other.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.slow
def test_a_frozen_hosts_late_results_are_refused(host: NewHost, server: Server) -> None:
    """A virtual machine suspended in the middle of a job, resumed after its lease: it finds out by itself."""
    frozen, client = host(pools=ONE), server.client()
    push(client, job("sleep", {"name": "a", "seconds": 6}))
    running_on(frozen, "a")
    other = host(pools=ONE)
    frozen.freeze()
    eventually(lambda: other.runs("slept"), 25)
    frozen.thaw()
    eventually(lambda: frozen.runs("slept"))
    push(client, *(job("sleep", {"name": f"c{n}", "seconds": 0.1}) for n in range(40)))
    eventually(lambda: any(n.startswith("c") for n in frozen.names("slept")))
    eventually(lambda: stats(client).get("processed") == 41, 20)
    assert stats(client) == {"processed": 41, "recovered": 1}
    assert frozen.stop() == other.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.parametrize("how", [pytest.param("killed", marks=pytest.mark.slow), "frozen"])
def test_an_outage_of_redis_longer_than_a_lease_makes_nobody_recover_anybody(
    host: NewHost, server: Server, how: str
) -> None:
    one, other, client = host(), host(), server.client()
    push(client, *(job("sleep", {"name": f"a{n}", "seconds": LEASE + 4}) for n in range(4)))
    eventually(lambda: len(one.runs("sleep")) == len(other.runs("sleep")) == 2)
    if how == "killed":
        server.kill()
    else:
        server.pause()
    idle_for(LEASE + 2)
    if how == "killed":
        server.start()
    else:
        server.resume()
    back = time.monotonic()
    push(server.client(), *(job("note", {"name": f"n{n}"}) for n in range(4)))
    eventually(lambda: stats(server.client()).get("processed") == 8, 20)
    idle_for(max(0.0, back + LEASE + 2 - time.monotonic()))
    assert stats(server.client()) == {"processed": 8}
    assert sorted(one.names("sleep") + other.names("sleep")) == ["a0", "a1", "a2", "a3"]
    assert one.stop() == other.stop() == 0
    assert leftovers(server.client()) == {}
