"""What networks do between jqd and Redis. In each case: nothing is lost, nothing is finished twice, and jobs run again within 5 s after
the network is sound.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from itertools import pairwise

import pytest

from tests.support.jqd import idle_for, job, leftovers, nothing_waits, push, stats
from tests.support.link import Fault, Link
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

AGAIN = (
    5.0 if os.getloadavg()[0] < (os.cpu_count() or 1) else 15.0
)  # seconds after healing; longer where others are at work


def break_for(link: Link, fault: Fault, seconds: float) -> None:
    """Returns when the network is sound again."""
    match fault:
        case "cut":
            link.cut()
        case "black hole":
            link.black_hole()
        case "half open":
            link.half_open()
    idle_for(seconds)
    link.heal()


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [("cut", 3.0), ("black hole", 0.2), pytest.param("black hole", 7.0, marks=pytest.mark.slow), ("half open", 0.0)],
)
def test_idle_workers_consume_again_within_5_s(
    jqd: NewJqd, server: Server, link: Link, fault: Fault, seconds: float
) -> None:
    """An idle worker is parked in a call that a dead connection never answers."""
    one, client = jqd(url=link.url), server.client()
    eventually(lambda: sum(c["cmd"] == "blmove" for c in client.client_list()) == 2)
    before = set(one.pids("worker"))
    break_for(link, fault, seconds)
    healed = time.monotonic()
    push(client, *(job("note", {"name": str(n)}) for n in range(100)))
    eventually(lambda: one.runs("note"), 15)
    assert time.monotonic() - healed < AGAIN
    eventually(lambda: stats(client).get("processed") == 100)
    assert Counter(one.names("note")) == {str(n): 1 for n in range(100)}
    assert set(one.pids("worker")) == before, "no worker had to be replaced"
    assert one.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        pytest.param("cut", 2.0, marks=pytest.mark.slow),
        ("black hole", 6.0),
        pytest.param("half open", 0.0, marks=pytest.mark.slow),
    ],
)
def test_busy_workers_finish_each_job_once_and_consume_again_within_5_s(
    jqd: NewJqd, server: Server, link: Link, fault: Fault, seconds: float
) -> None:
    """Under load: some trips are lost on their way, some only their answers. What runs meanwhile keeps its outcome."""
    one, client = jqd(url=link.url), server.client()
    push(client, *(job("sleep", {"name": str(n), "seconds": 0.005}) for n in range(600)))
    eventually(lambda: len(one.runs("slept")) > 50)
    break_for(link, fault, seconds)
    healed = time.monotonic()
    ran = len(one.runs("slept"))
    eventually(lambda: len(one.runs("slept")) > ran + 4, 15)
    again = time.monotonic() - healed
    eventually(lambda: nothing_waits(client), 30)
    assert stats(client) == {"processed": 600}, "each was finished once"
    ran_often = Counter(one.names("slept"))
    assert len(ran_often) == 600
    assert again < AGAIN + 0.5  # a trip under way when the fault begins is waited for as long as socket_timeout, 5 s
    assert one.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.slow
def test_a_slow_link_slows_down_and_breaks_nothing(jqd: NewJqd, server: Server, link: Link) -> None:
    link.delay, link.rate = 0.05, 100_000.0
    one, client = jqd(url=link.url), server.client()
    push(client, *(job("note", {"name": f"{n}" + "x" * 2000}) for n in range(100)))
    eventually(lambda: stats(client).get("processed") == 100, 40)
    assert set(Counter(one.names("note")).values()) == {1}
    assert one.events("Redis is not available") == [], "slow is not gone"
    eventually(lambda: sum(c["cmd"] == "blmove" for c in client.client_list()) == 2)
    push(client, job("note", {"name": "woken"}))
    begun = time.monotonic()
    eventually(lambda: "woken" in one.names("note"))
    assert time.monotonic() - begun < 10, "it was woken: by itself it looks after 30 s"
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_full_server_is_waited_for_and_said_once(jqd: NewJqd, server: Server, link: Link) -> None:
    """maxclients is reached when everybody comes back after a cut."""
    one, client = jqd(url=link.url), server.client()
    client.config_set("maxclients", 1 + 1)
    link.cut()
    link.heal()
    eventually(lambda: one.events("Redis is not available"))
    idle_for(3)
    told = Counter((event["role"], event["pid"]) for event in one.events("Redis is not available"))
    assert max(told.values()) <= 2, "an outage is one line, and one more for whoever had got in half"
    client.config_set("maxclients", 1000)
    healed = time.monotonic()
    push(client, *(job("note", {"name": str(n)}) for n in range(20)))
    eventually(lambda: len(one.runs("note")) == 20)
    assert time.monotonic() - healed < AGAIN
    assert one.stop() == 0
    assert leftovers(client) == {}


@pytest.mark.slow
def test_64_workers_do_not_come_back_all_at_once(jqd: NewJqd, server: Server, link: Link) -> None:
    pools = [{"name": "default", "processes": 64, "queues": ["default"]}]
    one, client = jqd(url=link.url, pools=pools, start=False), server.client()
    one.start(wait=False)
    one.wait_ready(60)
    eventually(lambda: sum(c["cmd"] == "blmove" for c in client.client_list()) == 64, 30)
    link.cut()
    idle_for(6)
    link.heal()
    healed = time.monotonic()
    push(client, *(job("sleep", {"name": str(n), "seconds": 0.001}) for n in range(2000)))
    eventually(lambda: one.runs("slept"))
    assert time.monotonic() - healed < AGAIN
    eventually(lambda: stats(client).get("processed") == 2000, 30)
    came = sorted(moment - healed for moment in link.accepted if moment >= healed)
    crowd = max(sum(1 for other in came if moment <= other < moment + 0.05) for moment in came)
    print(
        f"{len(came)} connections, first {came[0]:.3f} s, most in 50 ms: {crowd}, gaps up to {max(b - a for a, b in pairwise(came)):.3f} s"
    )
    assert crowd <= 32, "a quarter of all at most come in the same 50 ms"
    assert one.stop(timeout=60) == 0
    assert leftovers(client) == {}
