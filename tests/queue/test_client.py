"""JobQueue against a real server: what is in Redis after an enqueue, what is refused, what is said when Redis goes
away.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobqueue import InvalidJob, InvalidQueueName, JobQueue, QueueFull, ServerRefused, Unavailable, default
from jobqueue.errors import OutcomeUnknown
from jobqueue.handlers import isolated
from jobqueue.settings import QueueSettings
from tests.support.servers import Server

RAW = {"notifications": QueueSettings(key="jobs", codec="raw", handler="notify")}


@pytest.fixture(autouse=True)
def _no_default() -> Iterator[None]:
    before = default.set_default(None)
    yield
    default.set_default(before)


@pytest.fixture
def queue(embedded_server: Server) -> Iterator[JobQueue]:
    with JobQueue(embedded_server.url, queues=RAW) as made:
        yield made


def pending(server: Server, name: str = "default") -> list[dict[str, Any]]:
    """Envelopes of the ready list, oldest first."""
    return [json.loads(e) for e in server.client().lrange(f"jq:{{{name}}}:pending", 0, -1)[::-1]]


def test_a_plain_job_is_one_element_of_the_ready_list(queue: JobQueue, embedded_server: Server) -> None:
    job = queue.enqueue("email:welcome", {"user_id": 42})
    (envelope,) = pending(embedded_server)
    seconds, _ = embedded_server.client().time()
    assert (envelope["id"], envelope["type"], envelope["payload"]) == (job.id, "email:welcome", {"user_id": 42})
    assert abs(envelope["enqueued_at"] / 1000 - seconds) < 2
    assert set(envelope) == {"id", "type", "payload", "enqueued_at"}
    assert embedded_server.client().smembers("jq:queues") == {b"default"}
    assert embedded_server.client().hget("jq:{default}:stats", "enqueued") == b"1"


def test_every_option_reaches_the_envelope(queue: JobQueue, embedded_server: Server) -> None:
    queue.enqueue(
        "t", queue="q", max_attempts=3, time_limit="2m", headers={"trace": "x"}, expires=60, unique="u", id="mine"
    )
    (envelope,) = pending(embedded_server, "q")
    assert envelope.pop("expires_at") - envelope.pop("enqueued_at") == 60_000
    assert envelope == {
        "id": "mine", "type": "t", "max_attempts": 3, "time_limit": 120.0, "headers": {"trace": "x"}, "unique": "u"
    }  # fmt: skip


@pytest.mark.parametrize("delay", [10, "10s", timedelta(seconds=10)])
def test_a_delay_counts_from_the_servers_now(queue: JobQueue, embedded_server: Server, delay: Any) -> None:
    queue.enqueue("t", delay=delay)
    ((_, due),) = embedded_server.client().zrange("jq:{default}:scheduled", 0, -1, withscores=True)
    assert abs(due / 1000 - time.time() - 10) < 2


@pytest.mark.parametrize("at", [2e9, "2033-05-18T03:33:20+00:00", datetime.fromtimestamp(2e9, UTC)])
def test_at_is_an_absolute_time(queue: JobQueue, embedded_server: Server, at: Any) -> None:
    queue.enqueue("t", at=at)
    assert embedded_server.client().zrange("jq:{default}:scheduled", 0, -1, withscores=True)[0][1] == 2e12


def test_a_unique_key_and_an_id_admit_one_job(queue: JobQueue, embedded_server: Server) -> None:
    first, second = queue.enqueue("t", unique="k"), queue.enqueue("t", unique="k")
    assert not first.duplicate and second.duplicate and second.id == first.id
    one, again = queue.enqueue("t", id="mine"), queue.enqueue("t", id="mine")
    assert (one.id, one.duplicate, again.id, again.duplicate) == ("mine", False, "mine", True)
    assert len(pending(embedded_server)) == 2


def test_a_raw_queue_gets_the_very_text(queue: JobQueue, embedded_server: Server) -> None:
    """Also chosen by the type alone, since the queue says who handles its elements."""
    assert queue.enqueue("notify", "user1@foo.com,hello").id == ""
    queue.enqueue("notify", b"\xff\x00", queue="notifications")
    queue.enqueue("notify", "later", delay=5)
    client = embedded_server.client()
    assert client.lrange("jobs", 0, -1) == [b"\xff\x00", b"user1@foo.com,hello"]
    (wrapped,) = client.zrange("jq:{jobs}:scheduled", 0, -1)
    assert wrapped.startswith(b"\0jq1") and wrapped.endswith(b"later")
    assert client.smembers("jq:queues") == {b"notifications=jobs"}


def test_bytes_that_look_like_bookkeeping_stay_payload(queue: JobQueue, embedded_server: Server) -> None:
    queue.enqueue("notify", b"\0jq1\0\0\0\2{}x")
    (element,) = embedded_server.client().lrange("jobs", 0, -1)
    from jobqueue import codec

    assert codec.body(element) == b"\0jq1\0\0\0\2{}x"


def test_the_handlers_queue_is_the_default(queue: JobQueue, embedded_server: Server) -> None:
    from jobqueue import handler

    with isolated():

        @handler("thumb", queue="images")
        def thumb(path: str) -> None: ...

        thumb.enqueue(path="/a")
        queue.enqueue("thumb", {"path": "/b"})
        queue.enqueue_many([("thumb", {"path": "/c"})])
    assert [e["payload"]["path"] for e in pending(embedded_server, "images")] == ["/a", "/b", "/c"]


@dataclass
class Point:
    x: int
    when: datetime


def test_payloads_may_be_dataclasses(queue: JobQueue, embedded_server: Server) -> None:
    queue.enqueue("t", Point(1, datetime(2030, 1, 1, tzinfo=UTC)))
    assert pending(embedded_server)[0]["payload"] == {"x": 1, "when": "2030-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"type": "t", "payload": object()}, "cannot be written as JSON"),
        ({"type": "t", "payload": "\ud800"}, "cannot be written as JSON"),
        ({"type": ""}, "type is ''"),
        ({"type": "t", "delay": -1}, "delay is -1"),
        ({"type": "t", "delay": "soon"}, "delay is 'soon'"),
        ({"type": "t", "delay": 1, "at": 2e9}, "both delay and at"),
        ({"type": "t", "at": "tomorrow"}, "at is 'tomorrow'"),
        ({"type": "t", "max_attempts": 0}, "max_attempts is 0"),
        ({"type": "t", "time_limit": 0}, "time_limit is 0"),
        ({"type": "t", "unique": ""}, "unique is ''"),
        ({"type": "t", "id": "x" * 1000}, "id has 1000 bytes"),
        ({"type": "t", "headers": {"a": 1}}, "headers are"),
        ({"type": "t", "queue": "notifications"}, "is raw and all its elements go to 'notify'"),
        ({"type": "notify", "payload": {"a": [1]}}, "takes text or bytes"),
    ],
)
def test_a_job_that_cannot_work_is_refused_with_the_reason(
    queue: JobQueue, embedded_server: Server, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidJob, match=words.replace("'", ".")):
        queue.enqueue(**arguments)
    assert not embedded_server.client().exists("jq:{default}:pending", "jq:{default}:scheduled", "jobs")


def test_a_payload_within_itself_is_refused(queue: JobQueue) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidJob):
        queue.enqueue("t", loop)


def test_a_queue_name_with_braces_is_refused(queue: JobQueue) -> None:
    with pytest.raises(InvalidQueueName):
        queue.enqueue("t", queue="a{b}")


# ---------------------------------------------------------------- many


def test_many_keep_their_order_and_get_distinct_ids_that_sort(queue: JobQueue, embedded_server: Server) -> None:
    done = queue.enqueue_many(("t", {"n": n}) for n in range(9_000))
    envelopes = pending(embedded_server)
    assert [e["payload"]["n"] for e in envelopes] == list(range(9_000))
    assert [e["id"] for e in envelopes] == done.ids == sorted(set(done.ids))
    assert embedded_server.client().hget("jq:{default}:stats", "enqueued") == b"9000"


def test_many_of_all_kinds(queue: JobQueue, embedded_server: Server) -> None:
    """Options, other queues, raw ones and a duplicate among plain jobs; order within a queue is kept."""
    done = queue.enqueue_many(
        [("t", {"n": 0}), ("notify", "raw"), ("t", {"n": 1}), ("t", {"n": 2}, {"unique": "k"}), ("t", {"n": 3}),
         ("t", None, {"unique": "k"}), ("t", {"n": 9}, {"queue": "other"}), ("t", {"n": 4}, {"delay": 50})]
    )  # fmt: skip
    assert [e["payload"]["n"] for e in pending(embedded_server)] == [0, 1, 2, 3]
    assert [e["payload"]["n"] for e in pending(embedded_server, "other")] == [9]
    assert embedded_server.client().lrange("jobs", 0, -1) == [b"raw"]
    assert embedded_server.client().zcard("jq:{default}:scheduled") == 1
    assert len(done) == 8 and done.duplicates == 1 and done.ids[5] == done.ids[3] and done.ids[1] == ""


@pytest.mark.parametrize("item", [("t",), "ab", {"type": "t"}, ("t", {}, {"dealy": 1}), ("", {}), ("t", object())])
def test_a_bad_item_of_many_is_named(queue: JobQueue, item: Any) -> None:
    with pytest.raises(InvalidJob):
        queue.enqueue_many([item])


def test_many_hold_little_in_memory_and_tell_part_by_part(queue: JobQueue) -> None:
    read = 0

    def jobs() -> Iterator[tuple[str, dict[str, str]]]:
        nonlocal read
        for number in range(1, 6):
            read = number
            yield "t", {"x": "y" * 600_000}

    for part in queue.enqueue_parts(jobs()):
        assert len(part) <= 2 and read <= 5
        break
    assert read == 2


# ---------------------------------------------------------------- backpressure


def test_a_full_queue_refuses_and_has_room_again(embedded_server: Server) -> None:
    queue = JobQueue(embedded_server.url, queues={"default": {"max_length": 2}})
    queue.enqueue("t")
    queue.enqueue("t", id="with-options")
    for options in ({}, {"id": "x"}, {"block": 0.05}):
        with pytest.raises(QueueFull):
            queue.enqueue("t", **options)
    embedded_server.client().rpop("jq:{default}:pending")
    queue.enqueue("t")
    queue.close()


def test_block_waits_for_room(embedded_server: Server) -> None:
    queue = JobQueue(embedded_server.url, queues={"default": {"max_length": 1}})
    queue.enqueue("t", {"n": 1})
    client = embedded_server.client()
    threading.Timer(0.1, lambda: client.rpop("jq:{default}:pending")).start()
    began = time.monotonic()
    queue.enqueue("t", {"n": 2}, block=10)
    assert 0.05 < time.monotonic() - began < 5
    queue.close()


def test_many_stop_at_a_full_queue_and_say_how_many_are_in(embedded_server: Server) -> None:
    queue = JobQueue(embedded_server.url, queues={"default": {"max_length": 3}})
    with pytest.raises(QueueFull) as refused:
        queue.enqueue_many([("t", {"n": n}) for n in range(5)])
    assert refused.value.accepted == 3  # type: ignore[attr-defined]
    assert len(pending(embedded_server)) == 3
    queue.close()


def test_many_block_while_somebody_makes_room(embedded_server: Server) -> None:
    queue, client, took = (
        JobQueue(embedded_server.url, queues={"default": {"max_length": 10}}),
        embedded_server.client(),
        0,
    )

    def drain() -> None:
        nonlocal took
        while took < 60:
            took += client.blpop(["jq:{default}:pending"], timeout=5) is not None

    thread = threading.Thread(target=drain)
    thread.start()
    mixed = [("t", {"n": n}) if n % 20 else ("t", {"n": n}, {"id": f"i{n}"}) for n in range(60)]
    assert len(queue.enqueue_many(mixed, block=10)) == 60
    thread.join(10)
    assert took == 60
    queue.close()


# ---------------------------------------------------------------- trouble


def test_nothing_was_sent_if_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as down:
        JobQueue(f"unix://{tmp_path}/none.sock").enqueue("t")
    assert not down.value.sent and not isinstance(down.value, OutcomeUnknown)


def test_a_lost_reply_says_that_the_outcome_is_unknown_and_what_is_harmless(new_server: Callable[..., Server]) -> None:
    server = new_server()
    queue = JobQueue(server.url)
    queue.redis = queue.redis.__class__(url=server.url, socket_timeout=0.2)
    queue.enqueue("t", id="warm")
    server.pause()
    try:
        with pytest.raises(OutcomeUnknown, match="same id within an hour is the same job") as lost:
            queue.enqueue("t", id="mine")
        assert lost.value.sent and lost.value.repeatable
        with pytest.raises(Unavailable):
            queue.enqueue("t")
    finally:
        server.resume()
    queue.enqueue("t", id="mine")
    assert [e["id"] for e in pending(server)].count("mine") == 1, "the second try must not double it"
    queue.close()


def test_a_restart_between_two_jobs_goes_unnoticed(new_server: Callable[..., Server]) -> None:
    server = new_server(appendonly=True)
    queue = JobQueue(server.url)
    queue.enqueue("t")
    server.restart()
    time.sleep(0.03)  # the connection is looked at only after 20 ms without use
    queue.enqueue("t")
    assert len(pending(server)) == 2
    queue.close()


def test_a_wrong_password_is_an_answer(new_server: Callable[..., Server]) -> None:
    server = new_server()
    admin = server.client()
    admin.config_set("requirepass", "geheim")
    for url, code in ((server.url, "NOAUTH"), (f"unix://:falsch@{server.socket_path}", "WRONGPASS")):
        with pytest.raises(ServerRefused) as refused:
            JobQueue(url).enqueue("t")
        assert refused.value.code == code and "falsch" not in str(refused.value)
    JobQueue(f"unix://:geheim@{server.socket_path}").enqueue("t")


def test_full_memory_refuses_and_says_so(new_server: Callable[..., Server]) -> None:
    server = new_server(maxmemory="8mb")
    queue = JobQueue(server.url)
    with pytest.raises(ServerRefused, match="maxmemory") as refused:
        queue.enqueue_many(("t", "x" * 10_000) for _ in range(2_000))
    assert refused.value.code == "OOM"
    assert len(pending(server)) == refused.value.accepted  # type: ignore[attr-defined]
    for options in ({}, {"delay": 60}):
        with pytest.raises(ServerRefused):
            for _ in range(1_000):
                queue.enqueue("t", "x" * 10_000, **options)
    queue.close()


def test_parent_and_child_enqueue_after_a_fork(queue: JobQueue, embedded_server: Server) -> None:
    queue.enqueue("t", {"who": "before"})
    if (pid := os.fork()) == 0:
        try:
            for n in range(200):
                assert queue.enqueue("t", {"who": "child", "n": n}).id
            os._exit(0)
        finally:
            os._exit(1)
    for n in range(200):
        queue.enqueue("t", {"who": "parent", "n": n})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ids = [e["id"] for e in pending(embedded_server)]
    assert len(ids) == len(set(ids)) == 401


def test_threads_share_a_queue(queue: JobQueue, embedded_server: Server) -> None:
    threads = [threading.Thread(target=lambda: [queue.enqueue("t") for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({e["id"] for e in pending(embedded_server)}) == 800


def test_durability_says_what_was_reached(new_server: Callable[..., Server]) -> None:
    from jobqueue.settings import RedisSettings

    server = new_server()
    for durability, expected in (("none", None), ("replica", False), ("fsync", False)):
        queue = JobQueue(redis=RedisSettings(url=server.url, durability=durability))  # type: ignore[arg-type]
        assert queue.enqueue("t").durable is expected
        queue.close()
    assert len(pending(server)) == 3, "what is not durable is in all the same"


def test_a_config_file_says_where_and_how(embedded_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "jobqueue.yaml"
    file.write_text(
        f"redis: {{url: 'unix://{embedded_server.socket_path}', key_prefix: zz}}\n"
        "queues: {notifications: {key: jobs, codec: raw, handler: notify}}\npools: []\n"
    )
    queue = JobQueue.from_config(file, environ={})
    queue.enqueue("notify", "hello")
    queue.enqueue("t")
    assert embedded_server.client().lrange("jobs", 0, -1) == [b"hello"]
    assert embedded_server.client().llen("zz:{default}:pending") == 1
    queue.close()


def test_a_password_never_shows() -> None:
    queue = JobQueue("redis://:geheim@127.0.0.1:1/0")
    with pytest.raises(Unavailable) as down:
        queue.enqueue("t")
    assert "geheim" not in f"{queue!r} {down.value} {down.value.args} {socket.gethostname()}"
