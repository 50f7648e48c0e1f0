"""The Inspector and the Browser: what they count and find on a real server, and how little they ask of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobqueue import JobQueue, codec, default, where
from jobqueue.job import Envelope
from jobqueue.redis.browse import Browser
from jobqueue.redis.inspect import Inspector
from jobqueue.redis.queue import RedisQueue
from jobqueue.settings import QueueSettings
from tests.support.servers import Server
from tests.support.waiting import eventually

WORKER = "0123abcd.a1b2c3.my-pool.x-3.17-4242-99887"
RAW = {"notifications": QueueSettings(key="jobs", codec="raw", handler="notify")}


@pytest.fixture
def queue(embedded_server: Server) -> Iterator[JobQueue]:
    before = default.set_default(None)
    with JobQueue(embedded_server.url, queues=RAW) as made:
        yield made
    default.set_default(before)


@pytest.fixture
def inspector(queue: JobQueue) -> Inspector:
    return Inspector(queue.redis, queue.queues)


@pytest.fixture
def browser(inspector: Inspector) -> Browser:
    return Browser(inspector)


def worker(inspector: Inspector) -> RedisQueue:
    return RedisQueue(inspector.server, "jq", inspector.settings, inspector.server.version())


def bury(server: Server, job_id: str, *, at: int, queue: str = "default", **fields: Any) -> None:
    element = codec.encode(Envelope(type=fields.pop("type", "t"), id=job_id, **fields))
    server.one_client.zadd(f"jq:{{{queue}}}:dead", {element: at})


def test_an_empty_server_has_the_queues_of_the_config(inspector: Inspector) -> None:
    stats = inspector.stats()
    assert {k: stats[k] for k in ("pending", "scheduled", "dead", "processing", "workers")} == {
        "pending": 0, "scheduled": 0, "dead": 0, "processing": 0, "workers": []
    }  # fmt: skip
    assert list(stats["queues"]) == ["notifications"]
    assert stats["queues"]["notifications"]["latency_seconds"] is None


def test_every_state_is_counted(queue: JobQueue, inspector: Inspector, embedded_server: Server) -> None:
    queue.enqueue_many([("t", {"n": n}) for n in range(5)])
    queue.enqueue("t", delay=60)
    queue.enqueue("other", queue="q2")
    bury(embedded_server, "d", at=1)
    hands = worker(inspector)
    hands.join(WORKER, ["default"], 12_000)
    hands.settle(WORKER, 1, 0, "default", [], 0, ["default"], 2, False)
    embedded_server.client().lmove("jq:{default}:pending", "jq:{default}:next", "RIGHT", "LEFT")
    stats = inspector.stats()
    assert (stats["pending"], stats["scheduled"], stats["dead"], stats["processing"]) == (4, 1, 1, 2)
    assert stats["queues"]["default"]["pending"] == 3, "what is on its way in `next` counts"
    assert stats["queues"]["default"]["totals"]["enqueued"] == 6
    (seen,) = stats["workers"]
    assert (seen["worker"], seen["host"], seen["pool"], seen["index"], seen["pid"]) == (
        WORKER,
        "0123abcd",
        "my-pool.x",
        3,
        4242,
    )
    assert seen["queues"] == ["default"] and seen["held"] == 2 and 10 < seen["lease_seconds"] <= 12
    json.dumps(stats)


def test_a_hosts_report_says_what_its_workers_run(
    queue: JobQueue, inspector: Inspector, embedded_server: Server
) -> None:
    worker(inspector).join(WORKER, ["default"], 12_000)
    queue.enqueue("t")
    assert inspector.workers()[0].running is None
    report = {
        "workers": [{"worker": WORKER, "type": "t", "job_id": "x", "running_seconds": 2.5, "more": 1}, 3, {"worker": 4}]
    }
    for text, expected in (
        (json.dumps(report), {"type": "t", "job_id": "x", "running_seconds": 2.5}),
        ("[1]", None),
        ("{", None),
    ):
        embedded_server.client().set("jq:host:0123abcd.a1b2c3", text)
        assert inspector.workers()[0].running == expected


def test_a_running_job_grows_older_between_two_reports_of_its_host(
    queue: JobQueue, inspector: Inspector, embedded_server: Server
) -> None:
    queue.enqueue("t")
    client = embedded_server.client()
    worker(inspector).join(WORKER, ["default"], 12_000)
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    for at, expected in ((now - 3000, 5.5), (now + 60_000, 2.5)):
        report = {"at_ms": at, "workers": [{"worker": WORKER, "type": "t", "job_id": "x", "running_seconds": 2.5}]}
        client.set("jq:host:0123abcd.a1b2c3", json.dumps(report))
        running = inspector.workers()[0].running
        assert running is not None
        assert expected <= running["running_seconds"] < expected + 20


def test_latency_is_the_age_of_the_next_job(queue: JobQueue, inspector: Inspector, embedded_server: Server) -> None:
    client = embedded_server.client()
    now = int(client.time()[0]) * 1000
    for name, age in (("pending", 5_000), ("pending", 1_000), ("next", 9_000)):
        client.lpush(f"jq:{{q}}:{name}", codec.encode(Envelope(type="t", enqueued_at=now - age)))
    assert inspector.latency("q") == pytest.approx(9, abs=2)
    client.delete("jq:{q}:next")
    assert inspector.latency("q") == pytest.approx(5, abs=2)
    client.lpush("jq:{q}:next", codec.encode(Envelope(type="t", enqueued_at=now + 60_000)))
    assert inspector.latency("q") == 0, "a producer's fast clock gives no negative ages"


def test_a_job_without_a_date_ages_from_its_first_sight(
    queue: JobQueue, inspector: Inspector, embedded_server: Server
) -> None:
    queue.enqueue("notify", "a")
    assert inspector.latency("notifications") is None
    first = eventually(lambda: inspector.latency("notifications"))
    assert eventually(lambda: (inspector.latency("notifications") or 0) > first)
    embedded_server.client().delete("jobs")
    assert inspector.latency("notifications") is None


def test_two_trips_however_many_queues(queue: JobQueue, inspector: Inspector, embedded_server: Server) -> None:
    for n in range(40):
        queue.enqueue("t", queue=f"q{n}")
    inspector.stats()
    trips = 0
    pipe = inspector.server.pipe

    def counted(commands: Any) -> list[Any]:
        nonlocal trips
        trips += bool(commands)
        return pipe(commands)

    inspector.server.pipe = counted  # type: ignore[method-assign]
    worker(inspector).join(WORKER, ["q1", "q2"], 12_000)
    trips = 0
    assert len(inspector.stats()["queues"]) == 41
    assert trips == 2


def test_a_key_of_a_wrong_type_spoils_its_own_queue_only(
    queue: JobQueue, inspector: Inspector, embedded_server: Server
) -> None:
    queue.enqueue("t")
    embedded_server.client().set("jq:{notifications}:pending", "x")
    embedded_server.client().set("jobs", "x")
    stats = inspector.stats()
    assert stats["queues"]["default"]["pending"] == 1
    assert "WRONGTYPE" in stats["queues"]["notifications"]["broken"]


def test_a_strange_member_of_the_registry_does_no_harm(inspector: Inspector, embedded_server: Server) -> None:
    embedded_server.client().sadd("jq:queues", "", "a{b", b"\xff", "=x", "y=", "plain", "z=k")
    assert set(inspector.queues()) == {"notifications", "\ufffd", "y", "plain", "z"}
    assert inspector.keys("z").pending == "k"
    inspector.stats()


# ---------------------------------------------------------------- single jobs


def test_pending_jobs_are_paged_in_running_order(queue: JobQueue, browser: Browser, embedded_server: Server) -> None:
    queue.enqueue_many([("t", {"n": n}) for n in range(10)])
    for _ in range(3):
        embedded_server.client().lmove("jq:{default}:pending", "jq:{default}:next", "RIGHT", "LEFT")

    def numbers(offset: int, limit: int, *, newest: bool = False) -> list[int]:
        return [json.loads(e.payload)["n"] for e in browser.ls("default", "pending", offset, limit, newest=newest)]

    whole = list(range(10))
    for offset in range(12):
        for limit in (1, 2, 5, 20):
            assert numbers(offset, limit) == whole[offset : offset + limit], (offset, limit)
            assert numbers(offset, limit, newest=True) == whole[::-1][offset : offset + limit], (offset, limit)


def test_all_states_are_listed_and_every_job_is_found(
    queue: JobQueue, browser: Browser, embedded_server: Server
) -> None:
    hands = worker(browser.inspector)
    running = queue.enqueue("t", {"n": 1}).id
    hands.join(WORKER, ["default"], 12_000)
    hands.settle(WORKER, 1, 0, "default", [], 0, ["default"], 1, False)
    waiting, later = queue.enqueue("t").id, queue.enqueue("t", delay=60).id
    bury(embedded_server, "gone", at=5, error={"kind": "ValueError", "message": "no"})
    for job_id, state in ((running, "processing"), (waiting, "pending"), (later, "scheduled"), ("gone", "dead")):
        entry = browser.find(job_id)
        assert entry is not None and (entry.state, entry.queue) == (state, "default")
        assert [e.envelope.id for e in browser.ls("default", state)] == [job_id]  # type: ignore[arg-type]
        json.dumps(browser.ls("default", state)[0].plain() | {"payload": None})  # type: ignore[arg-type]
    assert browser.find("nobody") is None
    found = browser.find(running)
    assert found is not None and found.worker == WORKER


def test_raw_and_unreadable_elements_are_shown_as_text(
    queue: JobQueue, browser: Browser, embedded_server: Server
) -> None:
    queue.enqueue("notify", b"\xff\x1b[31m")
    (raw,) = browser.ls("notifications")
    assert raw.plain() == {
        "queue": "notifications",
        "state": "pending",
        "id": "",
        "type": "notify",
        "raw": "\\xff\x1b[31m",
    }
    embedded_server.client().lpush("jq:{default}:pending", "garbage")
    (bad,) = browser.ls("default")
    assert bad.plain()["raw"] == "garbage" and bad.problem


def test_a_search_is_bounded(queue: JobQueue, browser: Browser) -> None:
    last = queue.enqueue_many([("t", {"n": n}) for n in range(3_000)]).ids[0]
    assert browser.find(last, most=100) is None
    assert browser.find(last) is not None


def test_dead_letters_are_read_by_filter_even_while_they_go(browser: Browser, embedded_server: Server) -> None:
    """250 of one millisecond, of which those read are taken away: none is left out."""
    for n in range(250):
        bury(embedded_server, f"d{n}", at=1_000, type="even" if n % 2 == 0 else "odd", payload={"n": n})
    bury(embedded_server, "tomorrow", at=int(time.time() * 1000) + 86_400_000)
    seen: set[str] = set()
    for page in browser.dead("default", where.parse("type=even age>1h")):
        seen |= {entry.envelope.id for entry in page}
        for entry in page:
            embedded_server.one_client.zrem("jq:{default}:dead", entry.element)
    assert seen == {f"d{n}" for n in range(0, 250, 2)}
    assert embedded_server.client().zcard("jq:{default}:dead") == 126
