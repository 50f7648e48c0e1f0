"""Claims: in which order jobs come, from where, how many, and what stays where it is."""

from __future__ import annotations

import pytest

from jobqueue.outcome import Requeue
from tests.queue.backends import Backend, RedisBackend
from tests.queue.hands import Hand, done, enqueue


def test_jobs_come_in_the_order_they_were_put_in(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(5)))
    hand = Hand(backend)
    assert hand.claim(2) == [b"j0", b"j1"]
    assert backend.processing("q", "w1") == [b"j0", b"j1"]
    assert backend.pending("q") == [b"j2", b"j3", b"j4"]


def test_a_long_claim_keeps_the_order_whatever_the_sizes(backend: Backend) -> None:
    jobs = [b"%03d" % n + b"x" * (5000 if n % 7 == 0 else n) for n in range(64)]
    backend.push("q", *jobs)
    hand = Hand(backend)
    assert list(hand.settle(want=64).jobs) == jobs[: len(backend.processing("q", "w1"))]
    assert backend.processing("q", "w1") + backend.pending("q") == jobs


def test_what_lies_in_next_comes_before_the_ready_list(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c")
    backend.wake("q")
    backend.wake("q")
    assert backend.next("q") == [b"a", b"b"]
    assert Hand(backend).claim(3) == [b"a", b"b", b"c"]
    assert backend.next("q") == []


def test_a_trip_returns_next_in_order_if_asked(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c", b"d")
    for _ in range(3):
        backend.wake("q")
    hand = Hand(backend)
    claim = hand.settle(want=1, return_next=True)
    assert list(claim.jobs) == [b"a"]
    assert (backend.next("q"), backend.pending("q")) == ([], [b"b", b"c", b"d"])


def test_a_trip_leaves_next_alone_unless_asked(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    backend.wake("q")
    Hand(backend).settle(want=0)
    assert backend.next("q") == [b"a"]


def test_queues_are_asked_in_the_order_given(backend: Backend) -> None:
    enqueue(backend, b"low", queue="low")
    enqueue(backend, b"high", queue="high")
    hand = Hand(backend, queues=["high", "low"])
    first = hand.settle(want=5)
    assert (first.queue, list(first.jobs)) == ("high", [b"high"])
    second = hand.settle(done(b"high"), want=5)
    assert (second.queue, list(second.jobs)) == ("low", [b"low"])


def test_one_claim_never_mixes_queues(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    enqueue(backend, b"b", queue="r")
    claim = Hand(backend, queues=["q", "r"]).settle(want=10)
    assert (claim.queue, list(claim.jobs)) == ("q", [b"a"])
    assert backend.pending("r") == [b"b"]


def test_the_order_may_change_from_trip_to_trip(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    enqueue(backend, b"b", queue="r")
    assert Hand(backend, queues=["q", "r"]).settle(want=1, order=["r", "q"]).queue == "r"


def test_nothing_is_claimed_while_something_is_kept(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c")
    hand = Hand(backend)
    hand.claim(2)
    claim = hand.ack(b"a", keep=1, want=5)
    assert (claim.length, list(claim.jobs)) == (1, [])
    assert backend.processing("q", "w1") == [b"b"]
    assert backend.pending("q") == [b"c"]


def test_what_is_not_kept_goes_back_to_the_front_in_order(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(6)))
    hand = Hand(backend)
    hand.claim(5)
    claim = hand.ack(b"j0", keep=1)
    assert claim.length == 1
    assert backend.processing("q", "w1") == [b"j1"]
    assert backend.pending("q") == [b"j2", b"j3", b"j4", b"j5"]


def test_a_requeued_job_is_before_those_handed_back_with_it(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c", b"d", b"e")
    hand = Hand(backend)
    hand.claim(4)
    hand.settle(done(b"a", Requeue()), done(b"b", Requeue(b"b2")), keep=0)
    assert backend.pending("q") == [b"a", b"b2", b"c", b"d", b"e"]
    assert backend.processing_lists("q") == 0


def test_what_was_handed_back_may_be_claimed_in_the_same_trip(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c")
    hand = Hand(backend)
    hand.claim(2)
    claim = hand.ack(b"a", keep=0, want=1)
    assert (claim.length, list(claim.jobs)) == (0, [b"b"])
    assert backend.pending("q") == [b"c"]


def test_a_claim_stops_when_it_has_256_kib(backend: Backend) -> None:
    """So that large payloads never block the server; the job that crosses the line still comes."""
    backend.push("q", *(b"%d" % n + b"x" * 100_000 for n in range(8)))
    claim = Hand(backend).settle(want=8)
    assert 1 <= len(claim.jobs) < 8
    assert sum(map(len, claim.jobs[:-1])) < 256 * 1024
    assert len(backend.pending("q")) == 8 - len(claim.jobs)


def test_a_single_huge_job_can_be_claimed(backend: Backend) -> None:
    backend.push("q", b"x" * 1_000_000)
    assert len(Hand(backend).claim(5)[0]) == 1_000_000


def test_two_workers_share_a_queue_without_sharing_a_job(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(6)))
    one, other = Hand(backend, "w1"), Hand(backend, "w2")
    assert one.claim(2) + other.claim(2) + one.ack(b"j0", b"j1", want=2).jobs == [b"j%d" % n for n in range(6)]  # type: ignore[operator]


def test_an_empty_queue_gives_nothing_and_says_when(backend: Backend) -> None:
    claim = Hand(backend).settle(want=3)
    assert (claim.length, list(claim.jobs), claim.lost, claim.cancelled) == (0, [], 0, False)
    assert abs(claim.now_ms - backend.port.now_ms()) < 60_000


def test_a_paused_queue_is_skipped_and_named(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    enqueue(backend, b"b", queue="r")
    backend.pause("q")
    hand = Hand(backend, queues=["q", "r"])
    claim = hand.settle(want=5)
    assert (claim.queue, list(claim.jobs), claim.paused) == ("r", [b"b"], {"q"})
    backend.resume("q")
    claim = hand.settle(done(b"b"), want=5)
    assert (list(claim.jobs), claim.paused) == ([b"a"], frozenset())


def test_pausing_does_not_stop_settling_or_handing_back(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim(2)
    backend.pause("q")
    hand.ack(b"a")
    assert backend.pending("q") == [b"b"]
    assert backend.processing_lists("q") == 0
    assert backend.stats("q")["processed"] == 1


def test_a_claim_tells_that_marks_of_cancellation_exist(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    backend.cancel("q", "b")
    claim = hand.settle(want=2)
    assert claim.cancelled
    assert hand.port.cancelled("q", ["a", "b"]) == {"b"}
    assert hand.port.cancelled("q", ["a", "b"]) == frozenset(), "each mark works once"


def test_without_marks_nobody_needs_to_ask(backend: Backend) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    assert not hand.settle(want=1).cancelled
    assert hand.port.cancelled("q", []) == frozenset()


@pytest.mark.parametrize("what", ["pending", "next"])
def test_a_key_of_another_type_is_reported_and_the_other_queues_go_on(redis_backend: RedisBackend, what: str) -> None:
    enqueue(redis_backend, b"b", queue="r")
    redis_backend.client.set(getattr(redis_backend.keys("q"), what), "not a list")
    claim = Hand(redis_backend, queues=["q", "r"]).settle(want=1, return_next=True)
    assert (claim.queue, list(claim.jobs), claim.broken) == ("r", [b"b"], {"q"})
