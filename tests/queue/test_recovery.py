"""Recovery: what a dead worker held is disposed of once, whoever tries, however often, and whatever arrives late."""

from __future__ import annotations

import pytest

from jobqueue.errors import Fenced
from jobqueue.outcome import Bury, Requeue, Retry
from tests.queue.backends import Backend
from tests.queue.hands import Hand, done, enqueue


def requeued(elements: list[bytes]) -> list:  # type: ignore[type-arg]
    return [done(element, Requeue(), element.decode()) for element in elements]


def test_what_a_dead_worker_held_is_back_in_order_at_the_front(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(6)))
    hand = Hand(backend)
    hand.claim(4)
    applied, held = hand.port.fence("w1", "q")
    assert (applied, held) == (1, [b"j0", b"j1", b"j2", b"j3"])
    assert hand.port.recover("w1", "q", requeued(held), "recovered") == 0
    assert backend.pending("q") == [b"j%d" % n for n in range(6)]
    assert (backend.processing_lists("q"), backend.registered("q"), hand.port.leases("q")[0]) == (0, set(), {})
    assert backend.stats("q")["recovered"] == 4


def test_fencing_tells_the_same_until_recovery_is_through(backend: Backend) -> None:
    """A steward that died between fence and recover leaves a successor that knows as much."""
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.settle()
    hand.claim()
    assert hand.port.fence("w1", "q") == (2, [b"a"])
    assert hand.port.fence("w1", "q") == (2, [b"a"])
    hand.port.recover("w1", "q", requeued([b"a"]), "recovered")
    assert hand.port.fence("w1", "q") == (-1, [])


def test_the_fenced_is_refused_from_the_fence_on(backend: Backend) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    hand.port.fence("w1", "q")
    for trip in (2, 100):
        with pytest.raises(Fenced):
            hand.again(done(b"a"), want=1, trip=trip)
    with pytest.raises(Fenced):
        hand.port.reconcile("w1", 3, ["q"])
    assert backend.processing("q", "w1") == [b"a"]


def test_a_trip_that_arrives_after_recovery_changes_nothing(backend: Backend) -> None:
    """A command that a killed worker had sent can run after its list was recovered."""
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    held = hand.port.fence("w1", "q")[1]
    hand.port.recover("w1", "q", requeued(held), "recovered")
    with pytest.raises(Fenced):
        hand.again(done(b"a"), want=5, trip=2)
    assert (backend.pending("q"), backend.processing_lists("q")) == ([b"a", b"b"], 0)
    assert "processed" not in backend.stats("q")


def test_a_trip_that_arrives_before_the_fence_counts(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    hand.ack(b"a", want=1)
    applied, held = hand.port.fence("w1", "q")
    assert (applied, held) == (2, [b"b"])


def test_recovering_twice_is_recovering_once(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", unique="")
    hand = Hand(backend)
    hand.claim(2)
    settlements = [done(b"a", Retry(1000, b"a2"), "a"), done(b"b", Bury(b"b2"), "b")]
    hand.port.fence("w1", "q")
    assert hand.port.recover("w1", "q", settlements, "recovered") == 0
    assert hand.port.recover("w1", "q", settlements, "recovered") == 0
    assert (backend.scheduled("q"), backend.dead("q"), backend.pending("q")) == ([b"a2"], [b"b2"], [])
    stats = backend.stats("q")
    assert (stats["recovered"], stats["retried"], stats["dead"]) == (2, 1, 1)


def test_two_recoverers_do_it_once(backend: Backend) -> None:
    """Both saw the same list; with different minds about it, the first one's counts."""
    enqueue(backend, b"a", b"b", b"c")
    hand = Hand(backend)
    hand.claim(2)
    one, other = backend.again(), backend.again()
    held = one.fence("w1", "q")[1]
    assert other.fence("w1", "q")[1] == held
    one.recover("w1", "q", [done(held[0], Bury(b"dead"), "a"), *requeued(held[1:])], "recovered")
    other.recover("w1", "q", requeued(held), "recovered")
    assert (backend.dead("q"), backend.pending("q")) == ([b"dead"], [b"b", b"c"])


def test_a_late_recoverer_does_not_touch_the_next_owner(backend: Backend) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    hand.port.fence("w1", "q")
    hand.port.recover("w1", "q", requeued([b"a"]), "recovered")
    other = Hand(backend, "w2")
    other.claim()
    hand.port.recover("w1", "q", [done(b"a", Bury(b"dead"), "a")], "recovered")
    assert (backend.processing("q", "w2"), backend.dead("q")) == ([b"a"], [])


def test_an_interrupted_recovery_is_finished_by_the_next_one(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c")
    hand = Hand(backend)
    hand.claim(3)
    held = hand.port.fence("w1", "q")[1]
    assert hand.port.recover("w1", "q", requeued(held[:1]), "recovered") == 2
    assert "w1" in hand.port.leases("q")[0], "whose list still holds something is not forgotten"
    applied, rest = hand.port.fence("w1", "q")
    assert (applied, rest) == (1, [b"b", b"c"])
    assert hand.port.recover("w1", "q", requeued(rest), "recovered") == 0
    assert hand.port.leases("q")[0] == {}
    assert sorted(backend.pending("q")) == [b"a", b"b", b"c"]


def test_equal_payloads_are_recovered_by_count(backend: Backend) -> None:
    backend.push("q", *[b"same"] * 4)
    hand = Hand(backend)
    hand.claim(3)
    held = hand.port.fence("w1", "q")[1]
    assert held == [b"same"] * 3
    settlements = [done(b"same", Bury(b"new")), *requeued([b"same"] * 2)]
    assert hand.port.recover("w1", "q", settlements, "recovered") == 0
    assert (backend.dead("q"), backend.pending("q")) == ([b"new"], [b"same"] * 3)


def test_recovery_needs_no_fence_before_it(backend: Backend) -> None:
    """It fences by itself; a worker that is alive after all learns of it at its next trip."""
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    backend.port.recover("w1", "q", requeued([b"a"]), "recovered")
    with pytest.raises(Fenced):
        hand.ack(b"a")
    assert backend.pending("q") == [b"a"]


def test_recovery_returns_what_was_on_its_way_to_the_dead_worker(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", b"c")
    hand = Hand(backend)
    hand.claim()
    backend.wake("q")
    held = backend.port.fence("w1", "q")[1]
    backend.port.recover("w1", "q", requeued(held), "recovered")
    assert (backend.next("q"), backend.pending("q")) == ([], [b"a", b"b", b"c"])


def test_return_next_keeps_the_order(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(4)))
    for _ in range(3):
        backend.wake("q")
    assert backend.port.return_next("q") == 3
    assert (backend.next("q"), backend.pending("q")) == ([], [b"j%d" % n for n in range(4)])
    assert backend.port.return_next("q") == 0


def test_a_worker_that_never_held_anything_is_forgotten(backend: Backend) -> None:
    hand = Hand(backend)
    assert hand.port.fence("w1", "q") == (0, [])
    assert hand.port.recover("w1", "q", [], "recovered") == 0
    assert (backend.registered("q"), hand.port.leases("q")[0], backend.stats("q")) == (set(), {}, {})


def test_the_list_is_the_truth_even_for_a_worker_nobody_knows(backend: Backend) -> None:
    """Registration and lease are gone (evicted, deleted by hand): what the list holds can still be recovered."""
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    hand.port.fence("w1", "q")
    for _ in range(2):
        hand.port.recover("w1", "q", [], "recovered")
    held = hand.port.fence("w1", "q")[1]
    assert held == [b"a"]
    assert hand.port.recover("w1", "q", requeued(held), "recovered") == 0
    assert backend.pending("q") == [b"a"]


def test_leases_tell_every_worker_and_the_servers_time(backend: Backend) -> None:
    Hand(backend, "w1")
    Hand(backend, "w2")
    leases, now = backend.port.leases("q")
    assert set(leases) == {"w1", "w2"}
    assert all(0 < end - now <= 12_000 for end in leases.values())
    backend.pass_time("q", 13_000)
    leases, now = backend.port.leases("q")
    assert all(end < now for end in leases.values()), "an ended lease stays until somebody has recovered its worker"
