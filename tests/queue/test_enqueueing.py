"""Producers' promises: uniqueness, harmless repetition, length limits, due times, promotion."""

from __future__ import annotations

import pytest

from jobqueue.errors import InvalidQueueName, QueueFull
from jobqueue.outcome import Retry
from jobqueue.port import Enqueued, NewJob
from tests.queue.backends import Backend, RedisBackend
from tests.queue.hands import Hand, done, enqueue


def test_many_jobs_for_several_queues_are_answered_one_by_one(backend: Backend) -> None:
    jobs = [NewJob("q" if n % 2 else "r", f"j{n}", b"j%d" % n) for n in range(10)]
    assert backend.port.enqueue(jobs) == [Enqueued(f"j{n}", False) for n in range(10)]
    assert backend.pending("q") == [b"j%d" % n for n in range(1, 10, 2)]
    assert backend.pending("r") == [b"j%d" % n for n in range(0, 10, 2)]
    assert backend.stats("q") == {"enqueued": 5}


def test_no_jobs_are_no_trouble(backend: Backend) -> None:
    assert backend.port.enqueue([]) == []


def test_one_live_job_holds_a_unique_key(backend: Backend) -> None:
    assert enqueue(backend, b"a", unique="key") == [Enqueued("a", False)]
    assert enqueue(backend, b"b", unique="key") == [Enqueued("a", True)]
    assert enqueue(backend, b"c", unique="other") == [Enqueued("c", False)]
    assert backend.pending("q") == [b"a", b"c"]
    assert backend.stats("q") == {"enqueued": 2}


def test_unique_keys_of_different_queues_are_different(backend: Backend) -> None:
    enqueue(backend, b"a", unique="key", queue="q")
    assert enqueue(backend, b"b", unique="key", queue="r") == [Enqueued("b", False)]


def test_a_delayed_job_holds_its_unique_key(backend: Backend) -> None:
    enqueue(backend, b"a", unique="key", delay_ms=5000)
    assert enqueue(backend, b"b", unique="key") == [Enqueued("a", True)]
    assert backend.pending("q") == []


def test_after_its_end_the_key_may_be_taken_again(backend: Backend) -> None:
    enqueue(backend, b"a", unique="key")
    hand = Hand(backend)
    hand.claim()
    hand.settle(done(b"a", None, "a", "key"))
    assert enqueue(backend, b"b", unique="key") == [Enqueued("b", False)]


def test_the_same_id_again_is_the_same_enqueue_for_an_hour(backend: Backend) -> None:
    job = NewJob("q", "mine", b"mine", deduplicate=True)
    assert backend.port.enqueue([job]) == [Enqueued("mine", False)]
    assert backend.port.enqueue([job, job]) == [Enqueued("mine", True)] * 2
    hand = Hand(backend)
    hand.claim()
    hand.ack(b"mine")
    assert backend.port.enqueue([job]) == [Enqueued("mine", True)], "even when it is done already"
    backend.pass_time("q", 3_600_001)
    assert backend.port.enqueue([job]) == [Enqueued("mine", False)]


def test_ids_made_by_the_library_are_not_remembered(backend: Backend) -> None:
    job = NewJob("q", "made", b"made")
    assert backend.port.enqueue([job, job]) == [Enqueued("made", False)] * 2


@pytest.mark.parametrize("options", [{}, {"unique": "u"}], ids=["in bulk", "alone"])
def test_a_full_queue_takes_as_many_as_fit_and_says_so(backend: Backend, options: dict[str, str]) -> None:
    unique = options.get("unique", "")
    jobs = [NewJob("q", f"j{n}", b"j%d" % n, max_length=3, unique=unique and f"{unique}{n}") for n in range(5)]
    answers = backend.port.enqueue(jobs)
    assert answers[:3] == [Enqueued(f"j{n}", False) for n in range(3)]
    assert [type(answer) for answer in answers[3:]] == [QueueFull, QueueFull]
    assert answers[3].length == 3 and answers[3].max_length == 3  # type: ignore[union-attr]
    assert backend.pending("q") == [b"j0", b"j1", b"j2"]
    assert backend.stats("q") == {"enqueued": 3}
    assert backend.unique("q", "u4") is None, "a refused job leaves nothing behind"


def test_a_refused_id_may_be_tried_again(backend: Backend) -> None:
    backend.push("q", b"x")
    job = NewJob("q", "mine", b"mine", deduplicate=True, max_length=1)
    assert isinstance(backend.port.enqueue([job])[0], QueueFull)
    Hand(backend).claim()
    assert backend.port.enqueue([job]) == [Enqueued("mine", False)]


def test_a_limit_of_one_queue_does_not_stop_the_others(backend: Backend) -> None:
    backend.push("q", b"x")
    answers = backend.port.enqueue([NewJob("q", "a", b"a", max_length=1), NewJob("r", "b", b"b", max_length=1)])
    assert isinstance(answers[0], QueueFull)
    assert answers[1] == Enqueued("b", False)


def test_a_name_with_braces_is_refused_before_anything_is_written(backend: Backend) -> None:
    for name in ("", "a{b", "}"):
        with pytest.raises(InvalidQueueName):
            backend.port.enqueue([NewJob("q", "a", b"a"), NewJob(name, "b", b"b")])
    assert backend.pending("q") == []


def test_a_delayed_job_waits_until_it_is_due(backend: Backend) -> None:
    enqueue(backend, b"later", delay_ms=5000)
    assert (backend.pending("q"), backend.scheduled("q")) == ([], [b"later"])
    moved, due, now = backend.port.promote("q")
    assert moved == 0
    assert 4000 < due - now <= 5000
    backend.pass_time("q", 5001)
    moved, due, _ = backend.port.promote("q")
    assert (moved, due) == (1, 0)
    assert (backend.pending("q"), backend.scheduled("q")) == ([b"later"], [])


def test_an_absolute_time_counts_and_one_in_the_past_means_now(backend: Backend) -> None:
    now = backend.port.now_ms()
    enqueue(backend, b"past", due_ms=now - 10_000)
    enqueue(backend, b"future", due_ms=now + 60_000)
    assert (backend.pending("q"), backend.scheduled("q")) == ([b"past"], [b"future"])
    assert backend.port.promote("q")[1] == now + 60_000


def test_due_jobs_are_promoted_earliest_first_behind_those_that_wait(backend: Backend) -> None:
    now = backend.port.now_ms()
    for name, after in ((b"c", 3), (b"a", 1), (b"b", 2), (b"far", 100_000)):
        enqueue(backend, name, due_ms=now + 50_000 + after)
    enqueue(backend, b"first")
    backend.pass_time("q", 60_000)
    moved, due, _ = backend.port.promote("q")
    assert moved == 3
    assert due > 0
    assert backend.pending("q") == [b"first", b"a", b"b", b"c"]


def test_promotion_is_bounded_and_tells_that_more_is_due(backend: Backend) -> None:
    for n in range(5):
        enqueue(backend, b"j%d" % n, delay_ms=10 + n)
    backend.pass_time("q", 1000)
    moved, due, now = backend.port.promote("q", 2)
    assert (moved, due < now) == (2, True)
    assert backend.port.promote("q", 100)[0] == 3


def test_a_retry_is_due_after_its_delay(backend: Backend) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    hand.settle(done(b"a", Retry(5000, b"a2"), "a"))
    assert 4000 < backend.port.promote("q")[1] - backend.port.now_ms() <= 5000
    backend.pass_time("q", 5001)
    assert backend.port.promote("q")[0] == 1
    assert hand.claim() == [b"a2"]


def test_a_new_earliest_due_time_rings_the_alarm_and_a_later_one_does_not(backend: Backend) -> None:
    """A steward that sleeps until the next due time must hear of an earlier one."""
    enqueue(backend, b"b", delay_ms=60_000)
    assert backend.alarms("q") == 1
    enqueue(backend, b"c", delay_ms=90_000)
    assert backend.alarms("q") == 0
    enqueue(backend, b"a", delay_ms=30_000)
    assert backend.alarms("q") == 1


@pytest.mark.parametrize("by", ["settle", "recover"])
def test_a_retry_rings_the_alarm_too(backend: Backend, by: str) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    settlement = done(b"a", Retry(5000, b"a2"), "a")
    hand.settle(settlement) if by == "settle" else hand.port.recover("w1", "q", [settlement], "recovered")
    assert backend.alarms("q") == 1


def test_alarms_do_not_pile_up(redis_backend: RedisBackend) -> None:
    for n in range(10):
        enqueue(redis_backend, b"j%d" % n, delay_ms=60_000 - n * 1000)
    assert redis_backend.alarms("q") == 1


def test_registering_is_idempotent(redis_backend: RedisBackend) -> None:
    from jobqueue.settings import QueueSettings

    redis_backend.settings["foreign"] = QueueSettings(key="jobs")
    for _ in range(2):
        redis_backend.port.register(["q", "foreign"])
    assert redis_backend.client.smembers("jq:queues") == {b"q", b"foreign=jobs"}


def test_a_foreign_queue_is_the_very_list_it_names(redis_backend: RedisBackend) -> None:
    from jobqueue.settings import QueueSettings

    redis_backend.settings["notifications"] = QueueSettings(key="jobs", codec="raw", handler="notify")
    redis_backend.client.lpush("jobs", b"user1@foo.com,hello")
    hand = Hand(redis_backend, queues=["notifications"])
    assert hand.claim() == [b"user1@foo.com,hello"]
    assert redis_backend.client.lrange("jq:{jobs}:processing:w1", 0, -1) == [b"user1@foo.com,hello"]
    hand.ack(b"user1@foo.com,hello")
    assert redis_backend.client.hgetall("jq:{jobs}:stats") == {b"processed": b"1"}
