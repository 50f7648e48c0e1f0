"""Trips: each is carried out once or never; late ones, repeated ones and those of the fenced are refused for ever."""

from __future__ import annotations

import pytest

from jobqueue.errors import Fenced, Stale
from jobqueue.outcome import Bury, Requeue, Retry
from tests.queue.backends import Backend
from tests.queue.hands import LEASE_MS, Hand, done, enqueue


def test_who_has_not_joined_may_not_claim(backend: Backend) -> None:
    enqueue(backend, b"a")
    with pytest.raises(Fenced):
        backend.port.settle("nobody", 1, 0, "q", [], 0, ["q"], 1, False)
    assert backend.pending("q") == [b"a"]


def test_joining_again_changes_nothing(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    hand.port.join("w1", ["q"], LEASE_MS)
    assert hand.ack(b"a", want=1).jobs == [b"b"]


def test_a_trip_is_carried_out_once(backend: Backend) -> None:
    """A resent trip must neither settle nor claim a second time."""
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    with pytest.raises(Stale):
        hand.again(want=1, trip=1, applied=0)
    assert (backend.processing("q", "w1"), backend.pending("q")) == ([b"a"], [b"b"])


def test_a_trip_that_does_not_follow_the_last_one_is_refused(backend: Backend) -> None:
    """The server lost an older one (a failover), or the worker lost count."""
    hand = Hand(backend)
    hand.settle()
    for applied in (0, 2, 7):
        with pytest.raises(Stale):
            hand.again(trip=8, applied=applied)
    hand.again(trip=8, applied=1)


def test_a_late_trip_is_refused_for_ever_after_a_reconcile(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    assert hand.port.reconcile("w1", 5, ["q"]).applied == 1
    for late in (2, 3, 4, 5):
        with pytest.raises(Stale):
            hand.again(done(b"a"), want=1, trip=late)
    assert (backend.processing("q", "w1"), backend.pending("q")) == ([b"a"], [b"b"])
    hand.trip = 5
    assert hand.ack(b"a", want=1).jobs == [b"b"]


def test_a_late_reconcile_does_not_lower_the_bar_of_a_later_one(backend: Backend) -> None:
    """Else a trip that was declared dead could still come, and settle a second time by count what never ran."""
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    hand.port.reconcile("w1", 6, ["q"])
    hand.port.reconcile("w1", 3, ["q"])
    with pytest.raises(Stale):
        hand.again(done(b"a"), want=1, trip=5)


def test_reconcile_tells_that_the_lost_trip_was_applied(backend: Backend) -> None:
    """Its reply was lost: the settlements are done, and the new claim is in the list."""
    enqueue(backend, b"a", b"b", b"c")
    hand = Hand(backend)
    hand.claim()
    hand.again(done(b"a"), want=2, trip=2)
    found = hand.port.reconcile("w1", 3, ["q"])
    assert (found.applied, {q: list(jobs) for q, jobs in found.lists.items()}) == (2, {"q": [b"b", b"c"]})


def test_reconcile_tells_that_the_lost_trip_never_arrived(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim()
    found = hand.port.reconcile("w1", 3, ["q"])
    assert (found.applied, list(found.lists["q"])) == (1, [b"a"])
    hand.trip = 3
    assert hand.ack(b"a", want=1).jobs == [b"b"], "settled again, once"
    assert backend.stats("q")["processed"] == 1


def test_a_reconcile_may_be_repeated(backend: Backend) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    first = hand.port.reconcile("w1", 2, ["q", "r"])
    second = hand.port.reconcile("w1", 3, ["q", "r"])
    assert first == second
    assert {q: list(jobs) for q, jobs in second.lists.items()} == {"q": [b"a"], "r": []}


def test_a_trip_is_recorded_at_home_and_where_it_claims(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r", "s"])
    hand.claim()
    enqueue(backend, b"b", queue="r")
    assert hand.settle(done(b"a"), want=1).jobs == [b"b"]
    assert hand.port.reconcile("w1", 7, ["q", "r", "s"]).trips == {"q": 2, "r": 2, "s": 0}


def test_a_late_trip_claims_nowhere_once_its_home_has_seen_a_newer_one(backend: Backend) -> None:
    """Not even from a queue that knows of neither."""
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    enqueue(backend, b"b", queue="r")
    with pytest.raises(Stale):
        hand.again(want=1, trip=1, applied=0, order=["r"])
    assert backend.pending("r") == [b"b"]


@pytest.mark.parametrize("bar", ["fence", "reconcile"])
def test_a_queue_that_refuses_the_worker_is_not_claimed_from_and_told_of(backend: Backend, bar: str) -> None:
    """What is finished is settled all the same; a reconcile that has come to `r` and not yet to home means a late trip."""
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r", "s"])
    hand.claim()
    if bar == "fence":
        hand.port.fence("w1", "r")
    else:
        hand.port.reconcile("w1", 2, ["r"])
    assert hand.settle(done(b"a"), want=1).refused == "", "there is nothing to claim"
    enqueue(backend, b"b", queue="r")
    if bar == "reconcile":
        hand.port.reconcile("w1", 3, ["r"])
    claim = hand.settle(want=1)
    assert (claim.refused, list(claim.jobs)) == ("r", [])
    enqueue(backend, b"c", queue="s")
    if bar == "reconcile":
        hand.port.reconcile("w1", 4, ["r"])
    claim = hand.settle(want=1)
    assert (claim.refused, list(claim.jobs)) == ("r", []), "whoever is refused leaves, and takes nothing along"
    assert backend.stats("q")["processed"] == 1
    assert (backend.pending("r"), backend.processing("r", "w1")) == ([b"b"], [])
    if bar == "fence":
        with pytest.raises(Fenced):
            hand.port.reconcile("w1", 9, ["q", "r"])


def test_a_worker_fenced_elsewhere_still_settles_what_other_queues_accept(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    hand.port.fence("w1", "r")
    hand.settle(done(b"a"), order=["q"])
    assert backend.stats("q")["processed"] == 1


@pytest.mark.parametrize("disposition", [None, Retry(5, b"new"), Bury(b"new"), Requeue(), Requeue(b"new")])
def test_a_settlement_of_a_job_that_is_gone_changes_nothing_and_is_told(backend: Backend, disposition: object) -> None:
    """It was handed to somebody else meanwhile; neither its ack nor its failure record may touch the new owner's job."""
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    hand.port.hand_back("w1", "q", 1, 0)
    other = Hand(backend, "w2")
    other.claim()
    claim = hand.settle(done(b"a", disposition, "a"))  # type: ignore[arg-type]
    assert claim.lost == 1
    assert backend.processing("q", "w2") == [b"a"]
    assert (backend.pending("q"), backend.scheduled("q"), backend.dead("q")) == ([], [], [])
    assert set(backend.stats("q")) <= {"enqueued"}


def test_of_equal_payloads_exactly_as_many_are_settled_as_were_finished(backend: Backend) -> None:
    backend.push("q", *[b"same"] * 5)
    hand = Hand(backend)
    hand.claim(4)
    claim = hand.ack(b"same", b"same", keep=2)
    assert (claim.length, claim.lost) == (2, 0)
    assert (backend.processing("q", "w1"), backend.pending("q")) == ([b"same"] * 2, [b"same"])
    assert backend.stats("q")["processed"] == 2


def test_more_settlements_than_jobs_are_told_as_lost_and_not_counted(backend: Backend) -> None:
    backend.push("q", b"same", b"same")
    hand = Hand(backend)
    hand.claim(1)
    assert hand.ack(b"same", b"same", b"same").lost == 2
    assert backend.stats("q")["processed"] == 1
    assert backend.pending("q") == [b"same"]


def test_only_a_worker_that_holds_nothing_can_retire(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend)
    hand.claim()
    assert not hand.port.retire("w1", ["q"])
    assert backend.registered("q") == {"w1"}
    hand.ack(b"a")
    assert hand.port.retire("w1", ["q"])
    assert (backend.registered("q"), hand.port.leases("q")[0]) == (set(), {})
    with pytest.raises(Fenced):
        hand.settle(want=1)


def test_retiring_is_decided_queue_by_queue(backend: Backend) -> None:
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    assert not hand.port.retire("w1", ["q", "r"])
    assert (backend.registered("q"), backend.registered("r")) == ({"w1"}, set())


def test_a_beat_renews_the_registered_and_never_revives_the_fenced(backend: Backend) -> None:
    one = Hand(backend, "w1")
    Hand(backend, "w2")
    before = one.port.leases("q")[0]
    one.port.fence("w2", "q")
    one.port.recover("w2", "q", [], "recovered")
    assert one.port.beat("q", ["w1", "w2", "w3"], LEASE_MS * 2) == 1
    leases, now = one.port.leases("q")
    assert set(leases) == {"w1"}
    assert leases["w1"] > before["w1"]
    assert leases["w1"] - now > LEASE_MS


@pytest.mark.parametrize("seen", [0, 2, 9])
def test_a_hand_back_on_old_news_does_nothing(backend: Backend, seen: int) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim(2)
    assert hand.port.hand_back("w1", "q", seen, 1) == -1
    assert backend.processing("q", "w1") == [b"a", b"b"]


def test_a_hand_back_keeps_the_oldest_and_the_order_of_the_rest(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(6)))
    hand = Hand(backend)
    hand.claim(5)
    assert hand.port.hand_back("w1", "q", 1, 2) == 3
    assert backend.processing("q", "w1") == [b"j0", b"j1"]
    assert backend.pending("q") == [b"j2", b"j3", b"j4", b"j5"]
    assert hand.port.hand_back("w1", "q", 1, 2) == 0
    assert hand.ack(b"j0", keep=1).length == 1


def test_the_worker_learns_of_a_hand_back_from_the_length(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(4)))
    hand = Hand(backend)
    hand.claim(4)
    hand.port.hand_back("w1", "q", 1, 1)
    assert hand.ack(b"j0", keep=3).length == 0


def test_a_reconcile_ends_the_right_to_hand_back(backend: Backend) -> None:
    """The steward saw trip 1, but the worker is already sorting out what it holds: it counts on the list it was told."""
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim(2)
    hand.port.reconcile("w1", 2, ["q"])
    assert hand.port.hand_back("w1", "q", 1, 1) == -1
    assert hand.port.hand_back("w1", "q", 2, 1) == 1


def test_nobody_hands_back_for_the_fenced(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim(2)
    hand.port.fence("w1", "q")
    assert hand.port.hand_back("w1", "q", 1, 0) == -1


def test_a_trip_touches_only_the_queues_it_names_and_home(backend: Backend) -> None:
    """So a worker of many queues need not have the server look at all of them each time; home is always looked at."""
    enqueue(backend, b"a", queue="q")
    hand = Hand(backend, queues=["q", "r", "s"])
    hand.claim()
    enqueue(backend, b"b", queue="r")
    enqueue(backend, b"c", queue="s")
    assert hand.settle(done(b"a"), want=1, order=["r"]).jobs == [b"b"]
    assert hand.port.reconcile("w1", 7, ["q", "r", "s"]).trips == {"q": 2, "r": 2, "s": 0}
    hand.trip = 7
    assert hand.settle(done(b"b"), want=1, order=["s"]).jobs == [b"c"]
    with pytest.raises(Stale):
        hand.again(want=1, trip=3, applied=2, order=["s"])


def test_home_is_claimed_from_last_if_it_is_not_named(backend: Backend) -> None:
    enqueue(backend, b"a", b"b", queue="q")
    hand = Hand(backend, queues=["q", "r"])
    hand.claim()
    enqueue(backend, b"c", queue="r")
    assert hand.settle(done(b"a"), want=1, order=["r"]).jobs == [b"c"]
    assert (backend.processing("q", "w1"), backend.processing("r", "w1")) == ([], [b"c"])
    assert hand.settle(done(b"c"), want=1, order=["q"]).jobs == [b"b"]
