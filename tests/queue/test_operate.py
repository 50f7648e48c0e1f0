"""What operators do to jobs: each verb's effect on the keys, its guards, and races with others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobqueue import JobQueue, codec, default
from jobqueue.errors import InvalidQueueName
from jobqueue.job import Envelope, ErrorInfo
from jobqueue.redis.browse import Browser, Entry
from jobqueue.redis.inspect import Inspector
from jobqueue.redis.operate import Operator
from jobqueue.redis.queue import RedisQueue
from jobqueue.settings import QueueSettings
from tests.support.servers import Server, further_binaries

RAW = {"notifications": QueueSettings(key="jobs", codec="raw", handler="notify")}
WORKER = "0123abcd.a1b2c3.default-3.17-4242-99887"


@pytest.fixture(params=["embedded", "debian", *(further_binaries() or ["further"])])
def server(request: pytest.FixtureRequest) -> Server:
    """Every script runs on all."""
    found: Server
    if request.param == "further":
        pytest.skip("no further server is installed: make servers")
    if request.param in further_binaries():
        found = request.getfixturevalue("further_server")(request.param)
    else:
        found = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def queue(server: Server) -> Iterator[JobQueue]:
    before = default.set_default(None)
    with JobQueue(server.url, queues=RAW) as made:
        yield made
    default.set_default(before)


@pytest.fixture
def operator(queue: JobQueue) -> Operator:
    return Operator(Browser(Inspector(queue.redis, queue.queues)))


def bury(server: Server, name: str = "default", **fields: Any) -> None:
    envelope = Envelope(
        **{"type": "t", "id": "d", "attempt": 25, "crashes": 2, "error": ErrorInfo("E", "m"), "expires_at": 5} | fields
    )
    server.client().zadd(f"jq:{{{name}}}:dead", {codec.encode(envelope): 1_000})


def letter(operator: Operator, queue: str = "default") -> Entry:
    (entry,) = operator.browser.ls(queue, "dead")
    return entry


def test_a_dead_letter_starts_anew(server: Server, operator: Operator) -> None:
    bury(server, payload={"n": 1.50}, headers={"h": "x"}, enqueued_at=7)
    entry = letter(operator)
    assert operator.retry(entry).ok
    (element,) = server.client().lrange("jq:{default}:pending", 0, -1)
    assert json.loads(element) == {
        "type": "t",
        "id": "d",
        "payload": {"n": 1.5},
        "headers": {"h": "x"},
        "enqueued_at": 7,
    }
    assert not server.client().exists("jq:{default}:dead")
    assert not operator.retry(entry).ok, "a second operator comes too late"
    assert server.client().llen("jq:{default}:pending") == 1


def test_a_dead_letter_takes_its_unique_key_again(server: Server, operator: Operator, queue: JobQueue) -> None:
    bury(server, unique="k")
    holder = queue.enqueue("t", unique="k")
    refused = operator.retry(letter(operator))
    assert not refused.ok and refused.held_by == holder.id
    assert server.client().zcard("jq:{default}:dead") == 1
    assert operator.cancel(holder.id) == "cancelled"
    assert operator.retry(letter(operator)).ok
    assert server.client().get("jq:{default}:unique:k") == b"d"


def test_a_raw_dead_letter_stays_raw(server: Server, operator: Operator) -> None:
    element = codec.encode(Envelope(type="notify", id="r", attempt=9), b"\xff")
    server.client().zadd("jq:{jobs}:dead", {element: 1})
    assert operator.retry(letter(operator, "notifications")).ok
    (back,) = server.client().lrange("jobs", 0, -1)
    assert codec.body(back) == b"\xff" and codec.decode(back, raw_type="notify").attempt == 0


def test_dropping_frees_a_unique_key_only_if_it_is_still_its_own(server: Server, operator: Operator) -> None:
    client = server.client()
    bury(server, id="a", unique="mine")
    bury(server, id="b", unique="taken")
    client.set("jq:{default}:unique:mine", "a")
    client.set("jq:{default}:unique:taken", "somebody")
    letters = operator.browser.ls("default", "dead")
    assert operator.drop(letters) == 2 and operator.drop(letters) == 0 and operator.drop([]) == 0
    assert not client.exists("jq:{default}:unique:mine") and client.get("jq:{default}:unique:taken") == b"somebody"


def test_pause_and_resume(server: Server, operator: Operator) -> None:
    operator.pause("default", "deploy")
    assert operator.browser.inspector.counts("default").paused == "deploy"
    assert operator.resume("default") and not operator.resume("default")
    with pytest.raises(InvalidQueueName):
        operator.pause("a}b")


def test_purge_takes_what_waits_and_what_is_scheduled(server: Server, operator: Operator, queue: JobQueue) -> None:
    queue.enqueue_many([("t", {"n": n}) for n in range(450)])
    for n in range(3):
        queue.enqueue("t", unique=f"u{n}")
        queue.enqueue("t", unique=f"v{n}", delay=60)
    bury(server, id="dead")
    client = server.client()
    client.lmove("jq:{default}:pending", "jq:{default}:next", "RIGHT", "LEFT")
    steps = list(operator.purge("default"))
    assert sum(steps) == 456 and len(steps) > 4
    left = set(client.keys("jq:*")) - {b"jq:{default}:alarm"}
    assert left == {b"jq:queues", b"jq:{default}:stats", b"jq:{default}:dead"}
    assert client.hget("jq:{default}:stats", "purged") == b"456"
    assert list(operator.purge("default")) == []


def test_what_comes_during_a_purge_stays_and_a_broken_off_purge_is_finished(
    server: Server, operator: Operator, queue: JobQueue
) -> None:
    queue.enqueue_many([("t", {"n": n}, {"unique": f"u{n}"}) for n in range(150)])
    steps = operator.purge("default")
    next(steps)
    kept = queue.enqueue("t").id
    steps.close()
    assert operator.browser.find(kept) is not None
    queue.enqueue("t")
    assert sum(operator.purge("default")) == 52, "50 left behind, and what came since"
    assert not server.client().keys("jq:{default}:[up]*")


def test_large_jobs_are_purged_a_few_at_a_time(operator: Operator, queue: JobQueue) -> None:
    queue.enqueue_many([("t", "x" * 600_000)] * 4)
    assert list(operator.purge("default")) == [1, 1, 1, 1]


def test_cancel_in_every_state(server: Server, operator: Operator, queue: JobQueue) -> None:
    client = server.client()
    hands = RedisQueue(operator.server, "jq", {}, operator.server.version())
    running = queue.enqueue("t").id
    hands.join(WORKER, ["default"], 12_000)
    hands.settle(WORKER, 1, 0, "default", [], 0, ["default"], 1, False)
    waiting, later = queue.enqueue("t", unique="a").id, queue.enqueue("t", unique="b", delay=60).id
    bury(server)
    answers = [operator.cancel(job_id) for job_id in (waiting, later, running, "d", "nobody")]
    assert answers == ["cancelled", "cancelled", "marked", "dead", "unknown"]
    assert not client.exists(
        "jq:{default}:unique:a", "jq:{default}:unique:b", "jq:{default}:pending", "jq:{default}:scheduled"
    )
    assert client.smembers("jq:{default}:cancelled") == {running.encode()} and client.ttl("jq:{default}:cancelled") > 0
    assert client.hget("jq:{default}:stats", "cancelled") == b"2"
    assert operator.cancel("nobody", "default") == "marked"


def test_promote_does_not_wait(server: Server, operator: Operator, queue: JobQueue) -> None:
    job = queue.enqueue("t", delay=600)
    (entry,) = operator.browser.ls("default", "scheduled")
    assert operator.promote(entry) and not operator.promote(entry)
    assert [e.envelope.id for e in operator.browser.ls("default")] == [job.id]
    assert not server.client().exists("jq:{default}:scheduled")


def test_operators_can_act_when_memory_is_full(new_server: Callable[..., Server]) -> None:
    server = new_server()
    queue = JobQueue(server.url)
    queue.enqueue_many([("t", {"n": n}) for n in range(100)])
    bury(server, unique="k")
    server.client().config_set("maxmemory", "1mb")
    operator = Operator(Browser(Inspector(queue.redis)))
    assert operator.retry(letter(operator)).ok
    assert sum(operator.purge("default")) == 101
    queue.close()
