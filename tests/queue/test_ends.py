"""Each way a job can end: where it goes, what is counted, and when its unique key is free again."""

from __future__ import annotations

import pytest

from jobqueue.outcome import Ack, Bury, Disposition, Requeue, Retry
from jobqueue.settings import QueueSettings
from tests.queue.backends import Backend, RedisBackend
from tests.queue.hands import Hand, done, enqueue

FINAL = [
    (Ack(), "processed"),
    (Ack("discarded"), "discarded"),
    (Ack("expired"), "expired"),
    (Ack("cancelled"), "cancelled"),
    (Bury(b"new"), "dead"),
]
NOT_FINAL = [(Retry(5000, b"new"), "retried"), (Requeue(), "requeued"), (Requeue(b"new"), "requeued")]


def where(backend: Backend) -> dict[str, list[bytes]]:
    places = {"pending": backend.pending("q"), "scheduled": backend.scheduled("q"), "dead": backend.dead("q")}
    return {name: elements for name, elements in places.items() if elements}


@pytest.mark.parametrize(
    ("disposition", "place"),
    [
        (Ack(), {}),
        (Ack("discarded"), {}),
        (Retry(5000, b"new"), {"scheduled": [b"new"]}),
        (Bury(b"new"), {"dead": [b"new"]}),
        (Requeue(), {"pending": [b"a"]}),
        (Requeue(b"new"), {"pending": [b"new"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("by", ["settle", "recover"])
def test_a_job_goes_where_its_disposition_says_and_nowhere_else(
    backend: Backend, disposition: Disposition, place: dict[str, list[bytes]], by: str
) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    end(hand, by, disposition)
    assert where(backend) == place
    assert backend.processing_lists("q") == 0


@pytest.mark.parametrize(("disposition", "counter"), FINAL + NOT_FINAL, ids=str)
def test_every_end_is_counted_once(backend: Backend, disposition: Disposition, counter: str) -> None:
    enqueue(backend, b"a")
    hand = Hand(backend)
    hand.claim()
    hand.settle(done(b"a", disposition, "a"))
    assert backend.stats("q") == {"enqueued": 1, counter: 1}


@pytest.mark.parametrize("by", ["settle", "recover"])
@pytest.mark.parametrize(("disposition", "_counter"), FINAL, ids=str)
def test_a_final_end_frees_the_unique_key(backend: Backend, disposition: Disposition, _counter: str, by: str) -> None:
    enqueue(backend, b"a", unique="key")
    hand = Hand(backend)
    hand.claim()
    assert backend.unique("q", "key") == "a"
    end(hand, by, disposition, unique="key")
    assert backend.unique("q", "key") is None


@pytest.mark.parametrize("by", ["settle", "recover"])
@pytest.mark.parametrize(("disposition", "_counter"), NOT_FINAL, ids=str)
def test_a_job_that_will_run_again_keeps_its_unique_key(
    backend: Backend, disposition: Disposition, _counter: str, by: str
) -> None:
    enqueue(backend, b"a", unique="key")
    hand = Hand(backend)
    hand.claim()
    end(hand, by, disposition, unique="key")
    assert backend.unique("q", "key") == "a"


@pytest.mark.parametrize(("disposition", "_counter"), FINAL, ids=str)
def test_nobody_frees_the_key_of_another_job(backend: Backend, disposition: Disposition, _counter: str) -> None:
    """A late end must not let a third job in beside the second."""
    enqueue(backend, b"other", unique="key")
    backend.push("q", b"a")
    hand = Hand(backend)
    hand.claim(2)
    hand.settle(done(b"other", Requeue(), "other", "key"), done(b"a", disposition, "a", "key"))
    assert backend.unique("q", "key") == "other"


def test_handing_back_claiming_and_promoting_leave_unique_keys_alone(backend: Backend) -> None:
    enqueue(backend, b"a", unique="key", delay_ms=1000)
    backend.pass_time("q", 2000)
    backend.port.promote("q")
    hand = Hand(backend)
    hand.claim()
    backend.port.hand_back("w1", "q", 1, 0)
    assert backend.unique("q", "key") == "a"


def test_a_mixed_batch_ends_job_by_job(backend: Backend) -> None:
    enqueue(backend, *(b"j%d" % n for n in range(8)))
    hand = Hand(backend)
    hand.claim(8)
    claim = hand.settle(
        done(b"j0"),
        done(b"j1"),
        done(b"j2", Retry(1000, b"r2")),
        done(b"j3"),
        done(b"j4", Bury(b"b4"), "j4"),
        done(b"j5", Requeue()),
        done(b"j6", Ack("discarded"), "j6"),
        keep=1,
    )
    assert (claim.length, claim.lost) == (1, 0)
    assert where(backend) == {"pending": [b"j5"], "scheduled": [b"r2"], "dead": [b"b4"]}
    assert backend.processing("q", "w1") == [b"j7"]
    expected = {"enqueued": 8, "processed": 3, "retried": 1, "dead": 1, "requeued": 1, "discarded": 1}
    assert backend.stats("q") == expected


@pytest.mark.parametrize("by", ["settle", "recover"])
def test_the_oldest_dead_letters_make_room_for_new_ones(backend: Backend, by: str) -> None:
    backend.settings["q"] = QueueSettings(dead_max=3)
    backend.push("q", *(b"j%d" % n for n in range(5)))
    for n in range(5):
        hand = Hand(backend, f"w{n}")
        hand.claim()
        end(hand, by, Bury(b"d%d" % n), element=b"j%d" % n)
        backend.pass_time("q", 10)
    assert backend.dead("q") == [b"d2", b"d3", b"d4"]
    assert backend.stats("q")["dead"] == 5


def test_counters_add_up(backend: Backend) -> None:
    """Whatever was accepted is done, dropped, dead, or somewhere: nothing is counted twice, nothing vanishes."""
    enqueue(backend, *(b"j%d" % n for n in range(20)))
    hand = Hand(backend)
    ends = [Ack(), Retry(1, b"again"), Bury(b"dead"), Ack("discarded"), Requeue()]
    finished = 0
    for round_ in range(12):
        jobs = hand.claim(3)
        hand.settle(*(done(job, _numbered(ends[(round_ + n) % 5], round_ * 10 + n)) for n, job in enumerate(jobs)))
        finished += len(jobs)
        backend.pass_time("q", 5)
        backend.port.promote("q")
    stats = backend.stats("q")
    waiting = len(backend.pending("q")) + len(backend.scheduled("q"))
    assert stats["enqueued"] == stats["processed"] + stats["discarded"] + stats["dead"] + waiting
    assert finished == sum(stats[name] for name in ("processed", "discarded", "dead", "retried", "requeued"))


def test_a_trip_that_fails_half_way_can_be_repeated(redis_backend: RedisBackend) -> None:
    """Destination first, then removal: here the dead letters' key has a wrong type, so the second settlement raises."""
    from jobqueue.errors import ServerRefused

    enqueue(redis_backend, b"a", b"b")
    hand = Hand(redis_backend)
    hand.claim(2)
    redis_backend.client.set(redis_backend.keys("q").dead, "not a zset")
    with pytest.raises(ServerRefused) as refused:
        hand.settle(done(b"a", Retry(1000, b"a2")), done(b"b", Bury(b"b2")))
    assert refused.value.code == "WRONGTYPE"
    assert redis_backend.processing("q", "w1") == [b"a", b"b"]
    redis_backend.client.delete(redis_backend.keys("q").dead)
    hand.again(done(b"a", Retry(1000, b"a2")), done(b"b", Bury(b"b2")))
    assert where(redis_backend) == {"scheduled": [b"a2"], "dead": [b"b2"]}
    assert redis_backend.processing_lists("q") == 0


def end(hand: Hand, by: str, disposition: Disposition, *, element: bytes = b"a", unique: str = "") -> None:
    """End the one job the worker holds: by its own trip, or by a steward after its death."""
    settlement = done(element, disposition, element.decode(), unique)
    if by == "settle":
        hand.settle(settlement)
    else:
        hand.port.fence(hand.name, "q")
        assert hand.port.recover(hand.name, "q", [settlement], "recovered") == 0


def _numbered(disposition: Disposition, number: int) -> Disposition:
    match disposition:
        case Retry(delay_ms, element):
            return Retry(delay_ms, element + b"%d" % number)
        case Bury(element):
            return Bury(element + b"%d" % number)
        case _:
            return disposition


def test_dead_letters_leave_after_their_time_oldest_first(backend: Backend) -> None:
    enqueue(backend, b"a", b"b")
    hand = Hand(backend)
    hand.claim(2)
    hand.settle(done(b"a", Bury(b"dead a"), "a"), done(b"b", Bury(b"dead b"), "b"))
    assert backend.port.expire_dead("q", 60_000) == 0
    assert len(backend.dead("q")) == 2
    assert backend.port.expire_dead("q", -60_000, 1) == 1
    assert backend.port.expire_dead("q", -60_000) == 1
    assert backend.dead("q") == []
    assert backend.stats("q")["dead_expired"] == 2


@pytest.mark.parametrize("right", ["-hset", "-hmget", "resetkeys"])
def test_a_right_that_is_missing_inside_a_script_is_called_by_its_name(redis_backend: RedisBackend, right: str) -> None:
    """Servers say NOPERM only of the call itself; whoever waits for the outage to end must know that it will not."""
    from jobqueue.errors import ServerRefused

    if type(redis_backend.client).__name__.startswith("Fake"):
        pytest.skip("fakeredis has no rights")
    enqueue(redis_backend, b"a")
    hand = Hand(redis_backend)
    admin = redis_backend.client
    admin.execute_command("ACL", "SETUSER", "default", right)
    try:
        with pytest.raises(ServerRefused) as refused:
            hand.claim()
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "~*", "+@all")
    assert refused.value.code == "NOPERM"
    assert "docs/security.md" in str(refused.value)
