"""From one LPUSH to a finished job, with everything real."""

from __future__ import annotations

import itertools
import random
import signal
import statistics
import time

import pytest

from tests.support.jqd import job, leftovers, nothing_waits, push, stats
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

RAW = {"default": {}, "texts": {"key": "texts", "codec": "raw", "handler": "raw"}}


def one_worker(*queues: str, **more: object) -> list[dict[str, object]]:
    return [{"name": "default", "processes": 1, "queues": list(queues), **more}]


def test_a_plain_lpush_is_a_complete_enqueue_and_a_stop_leaves_nothing_behind(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, *(job("note", {"name": str(i)}) for i in range(5)))
    eventually(lambda: len(one.runs("note")) == 5)
    eventually(lambda: stats(client).get("processed") == 5)
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_any_program_can_lpush_bytes_to_a_raw_queue(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(pools=one_worker("texts"), queues=RAW), server.client()
    client.lpush("texts", "user1@foo.com,installed", "zweite")
    eventually(lambda: one.names("raw") == ["user1@foo.com,installed", "zweite"])
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_one_worker_runs_a_thousand_jobs_in_the_order_they_came_through_wakeups_and_bursts(
    jqd: NewJqd, server: Server
) -> None:
    one, client = jqd(pools=one_worker("default")), server.client()
    rng, sent = random.Random(7), 0
    while sent < 1000:
        n = min(rng.choice((1, 1, 2, 30, 100)), 1000 - sent)
        push(client, *(job("note", {"name": str(sent + i)}) for i in range(n)))
        sent += n
        if rng.random() < 0.5:  # let it go idle and be woken
            eventually(lambda: len(one.runs("note")) == sent)  # noqa: B023
    eventually(lambda: len(one.runs("note")) == 1000)
    assert one.names("note") == [str(i) for i in range(1000)]


def test_order_survives_the_kill_of_the_worker(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(pools=one_worker("default")), server.client()
    push(client, *(job("note", {"name": f"warm{i}"}) for i in range(40)))  # the type becomes known as short
    push(
        client,
        job("sleep", {"name": "first", "seconds": 0.1, "killed": True}),
        *(job("note", {"name": str(i)}) for i in range(100)),
    )
    eventually(lambda: one.runs("sleep"))
    [worker] = one.pids("worker")
    signal_kill(worker)
    eventually(lambda: len(one.runs("note")) == 140)
    assert one.names("sleep") == ["first", "first"]
    assert one.names("note")[40:] == [str(i) for i in range(100)]


def test_equal_payloads_are_all_run_while_connections_are_cut(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(pools=[{"name": "default", "processes": 2, "queues": ["texts"]}], queues=RAW), server.client()
    for _ in range(50):
        client.lpush("texts", *["same"] * 20)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    eventually(lambda: stats(client, "texts").get("processed", 0) >= 1000, 30)
    eventually(lambda: nothing_waits(client, ["texts"]) and not client.llen("texts"))
    assert stats(client, "texts")["processed"] == 1000, "settlements = accepted"
    assert len(one.runs("raw")) >= 1000, "completed runs >= accepted"
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_long_job_keeps_nothing_waiting_in_other_queues_or_behind_it(jqd: NewJqd, server: Server) -> None:
    one = jqd(pools=[{"name": "default", "processes": 2, "queues": ["critical", "default", "low"]}])
    client = server.client()
    push(client, *(job("note", {"name": f"warm{i}"}) for i in range(60)))
    eventually(lambda: len(one.runs("note")) == 60)
    push(client, job("sleep", {"name": "long", "seconds": 1.5}), queue="low")
    eventually(lambda: one.runs("sleep"))
    push(client, *(job("note", {"name": "d"}) for _ in range(200)))
    push(client, *(job("note", {"name": "c"}) for _ in range(200)), queue="critical")
    eventually(lambda: len(one.runs("note")) == 460)
    assert not one.runs("slept"), "all of them ran beside the long one"


def test_an_unfinished_claim_is_handed_back_when_a_short_type_turns_long(jqd: NewJqd, server: Server) -> None:
    """A type that was short for a while claims many; the first long one of it must not hold up the rest."""
    one, client = jqd(), server.client()
    push(client, *(job("sleep", {"name": "warm", "seconds": 0}) for _ in range(100)))
    eventually(lambda: len(one.runs("slept")) == 100)
    push(
        client,
        job("sleep", {"name": "long", "seconds": 1.0}),
        *(job("sleep", {"name": "tiny", "seconds": 0}) for _ in range(60)),
    )
    eventually(lambda: one.names("slept").count("tiny") == 60)
    assert "long" not in one.names("slept"), "60 tiny jobs waited for nobody"


def test_flaky_jobs_end_done_or_dead_and_retries_wait_for_their_backoff(jqd: NewJqd, server: Server) -> None:
    queues = {"default": {"max_attempts": 4, "backoff": {"base": "20ms", "max": "40ms"}}}
    one, client = jqd(queues=queues), server.client()
    push(client, *(job("demo:flaky", {"p": 0.5}) for _ in range(300)))
    eventually(lambda: stats(client).get("processed", 0) + stats(client).get("dead", 0) == 300, 30)
    totals = stats(client)
    assert client.zcard("jq:{default}:dead") == totals["dead"] > 0
    assert totals["retried"] >= totals["dead"] * 3
    assert one.stop() == 0


def test_a_retry_of_fifty_milliseconds_comes_in_time_while_the_steward_sleeps_towards_next_hour(
    jqd: NewJqd, server: Server
) -> None:
    one, client = jqd(queues={"default": {"max_attempts": 8}}), server.client()
    client.zadd(
        "jq:{default}:scheduled", {job("note", {"name": "later"}, id="later"): int(time.time() * 1000) + 3_600_000}
    )
    push(client, job("fail", {"name": "x"}))
    eventually(lambda: len(one.runs("fail")) == 8)
    times = [float(run[3]) for run in one.runs("fail")]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert min(gaps) >= 0.05, gaps
    assert statistics.median(gaps) < 0.4, f"promoted when due, not by the sweep of each second: {gaps}"
    assert not one.runs("note")


@pytest.mark.parametrize(
    ("fields", "dead"),
    [
        ({"type": "note", "payload": {"name": "x"}}, 0),
        ({"type": "skip", "payload": {"name": "x"}}, 1),
        ({"type": "discard", "payload": {"name": "x"}}, 0),
        ({"type": "fail", "payload": {"name": "x"}, "max_attempts": 2}, 1),
        ({"type": "note", "payload": {"wrong": 1}}, 1),
        ({"type": "note", "payload": {"name": "x"}, "expires_at": 1}, 0),
    ],
    ids=["done", "skipped", "discarded", "dead", "payload does not fit", "expired"],
)
def test_a_unique_key_is_free_after_each_way_a_job_can_end(
    jqd: NewJqd, server: Server, fields: dict[str, object], dead: int
) -> None:
    client = server.client()
    client.set("jq:{default}:unique:k", "the-id")
    one = jqd()
    push(
        client,
        job(
            str(fields["type"]),
            fields["payload"],
            id="the-id",
            unique="k",
            **{k: v for k, v in fields.items() if k not in ("type", "payload")},
        ),
    )  # type: ignore[arg-type]
    eventually(lambda: not client.exists("jq:{default}:unique:k"))
    assert client.zcard("jq:{default}:dead") == dead
    assert one.stop() == 0


def test_what_cannot_be_a_job_is_buried_with_the_reason_and_an_unknown_type_is_put_off(
    jqd: NewJqd, server: Server
) -> None:
    one, client = jqd(), server.client()
    push(
        client, b"not json", b'{"payload": {}}', b"\xff\xfe", b"[]", job("nobody:knows"), job("note", {"name": "still"})
    )
    eventually(lambda: client.zcard("jq:{default}:dead") == 4 and client.zcard("jq:{default}:scheduled") == 1)
    eventually(lambda: one.names("note") == ["still"])
    assert any(
        "Malformed" in element.decode("utf-8", "replace") for element in client.zrange("jq:{default}:dead", 0, -1)
    )
    assert len(one.events("no handler")) >= 1


def test_a_full_server_drains_itself(jqd: NewJqd, new_server: object) -> None:
    """Pending jobs fill maxmemory; running them is what frees it."""
    server = new_server(maxmemory="12mb")  # type: ignore[operator]
    client = server.client()
    n = 0
    payload = job("note", {"name": "x" * 20_000})
    with pytest.raises(Exception, match="maxmemory"):
        while True:
            push(client, payload)
            n += 1
    one = jqd(url=server.url)
    eventually(lambda: stats(client).get("processed") == n, 30)
    assert len(one.runs("note")) == n > 100
    assert one.stop() == 0


def test_paused_queues_wait_and_resume(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    client.set("jq:{default}:paused", "migration")
    push(client, *(job("note", {"name": str(i)}) for i in range(3)))
    time.sleep(0.5)
    assert not one.runs("note")
    client.delete("jq:{default}:paused")
    eventually(lambda: len(one.runs("note")) == 3)


def signal_kill(pid: int) -> None:
    import os

    os.kill(pid, signal.SIGKILL)
