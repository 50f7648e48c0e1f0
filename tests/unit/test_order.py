"""A trip names as many queues as it takes to find jobs; none is forgotten before a worker waits, and priorities hold."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.order import FEW, Order

MANY = tuple(f"q{i}" for i in range(100))


def search(order: Order, home: str, full: set[str], want: int = 1, now: int = 1 << 60) -> tuple[str | None, list[int]]:
    """Trips until one finds jobs in one of `full`, or all are known to be empty: the queue, and how many each trip named."""
    named = []
    while True:
        queues = order.claiming(home, want, now)
        named.append(len(queues))
        queue = next((q for q in queues if q in full), None)
        if order.found(queues, queue):
            return queue, named


def test_few_queues_are_all_named_in_every_trip() -> None:
    order = Order(("a", "b", "c"), None, random.Random(1))
    assert order.claiming("c", 9, 1) == ("a", "b", "c")
    assert search(order, "a", set()) == (None, [3])


def test_of_many_queues_a_trip_names_those_in_front_of_the_jobs() -> None:
    order = Order(MANY, None, random.Random(1))
    assert search(order, "q0", {"q2", "q70"}) == ("q2", [FEW])
    assert search(order, "q2", {"q70"}) == ("q70", [4, 16, 64, 100])
    assert order.claiming("q70", 1, 1) == MANY[:71], "and remembers how far that was"
    assert search(order, "q70", {"q2"}) == ("q2", [71])
    assert len(order.claiming("q2", 1, 1)) == FEW


def test_before_it_waits_every_queue_was_looked_at() -> None:
    order = Order(MANY, None, random.Random(1))
    found, named = search(order, "q0", set())
    assert (found, named[-1]) == (None, 100)
    assert len(order.claiming("q0", 1, 1)) == FEW, "the next search begins small"


def test_many_empty_queues_are_not_looked_at_for_each_claim_of_many_jobs() -> None:
    order, now = Order(MANY, None, random.Random(1), 0.005), 1_000
    assert search(order, "q0", {"q70"}, 64, now) == ("q70", [4, 16, 64, 100])
    assert search(order, "q70", {"q2", "q70"}, 64, now + 1) == ("q70", [1])
    assert search(order, "q70", {"q2", "q70"}, 1, now + 2) == ("q2", [71]), "one at a time: priorities to the letter"
    assert search(order, "q2", {"q70"}, 64, now + 3) == ("q70", [4, 16, 64, 100])
    assert search(order, "q70", {"q71"}, 64, now + 4) == ("q71", [1, 100]), "before it waits all are looked at"
    assert search(order, "q71", {"q2", "q71"}, 64, now + 5 + 5_000_000) == ("q2", [72]), "and else after a moment"


@given(st.sets(st.sampled_from(MANY), min_size=1), st.lists(st.sampled_from(MANY), max_size=5))
def test_strict_order_holds_whatever_was_found_before(full: set[str], earlier: list[str]) -> None:
    order, home = Order(MANY, None, random.Random(1)), "q0"
    for queue in earlier:
        home = search(order, home, {queue})[0] or home
    assert home in order.claiming(home, 1, 1), "every trip names home"
    assert search(order, home, full)[0] == min(full, key=MANY.index)


def test_a_wake_up_fetches_jobs_in_order_too() -> None:
    """A queue nobody waited on, because it was paused or the server refused, may have got some meanwhile."""
    order = Order(("a", "b", "c", "d"), None, random.Random(1))
    assert order.woken(["c"]) == ("a", "b", "c")
    assert order.woken(["b", "a"]) == ("a", "b")
    drawn = Order(("a", "b"), (1, 1), random.Random(1))
    assert {drawn.woken(["b"]) for _ in range(50)} == {("b",), ("a", "b")}


def test_weights_hold_with_few_and_with_many_queues() -> None:
    rng = random.Random(7)
    few = Order(("a", "b"), (3, 1), rng)
    first = [few.claiming("a", 1, 1)[0] for _ in range(4000)]
    assert 2800 < first.count("a") < 3200
    many = Order(MANY, (50, *[1] * 98, 0), rng)
    found = [search(many, "q0", set(MANY))[0] for _ in range(2000)]
    assert 550 < found.count("q0") < 800, "50 of 148"
    assert "q99" not in found, "weight 0: only when all others are empty"
    assert search(many, "q0", {"q99"})[0] == "q99"
