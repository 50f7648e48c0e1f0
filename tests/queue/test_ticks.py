"""Cron's promises: a tick is pushed once, whoever tries and however often, never before its time, and never after a later one."""

from __future__ import annotations

import pytest

from jobqueue.errors import ServerRefused
from jobqueue.port import AHEAD_MS, NewJob, Ticked
from tests.queue.backends import Backend, RedisBackend
from tests.queue.hands import Hand, done, enqueue

DAILY = "0 3 * * * UTC"
DAY = 86_400_000


def tick(backend: Backend, at: int, *, name: str = "nightly", id: str = "a", **options: object) -> Ticked:  # noqa: A002
    job = NewJob("q", id, id.encode(), **options)  # type: ignore[arg-type]
    return backend.again().tick(name, DAILY, at, job)


def test_a_tick_is_pushed_once_whoever_tries(backend: Backend) -> None:
    now = backend.port.now_ms()
    assert tick(backend, now - 50)[:2] == ("pushed", now - 50)
    assert tick(backend, now - 50, id="b")[:2] == ("held", now - 50)
    assert backend.pending("q") == [b"a"]
    assert backend.stats("q") == {"enqueued": 1}


def test_a_tick_before_the_last_one_is_over(backend: Backend) -> None:
    """A steward that slept, or was cut off, must not bring an old one."""
    now = backend.port.now_ms()
    tick(backend, now - 10)
    assert tick(backend, now - 20, id="b")[:2] == ("held", now - 10)
    assert backend.pending("q") == [b"a"]


def test_a_later_tick_is_another(backend: Backend) -> None:
    now = backend.port.now_ms()
    assert [tick(backend, now - ago, id=f"j{ago}").what for ago in (30, 20, 10)] == ["pushed"] * 3
    assert backend.pending("q") == [b"j30", b"j20", b"j10"]


def test_entries_do_not_know_each_other(backend: Backend) -> None:
    now = backend.port.now_ms()
    assert [tick(backend, now, name=name, id=name).what for name in ("one", "two")] == ["pushed"] * 2


def test_nothing_is_pushed_before_its_time(backend: Backend) -> None:
    """Whatever the steward's clock says."""
    now = backend.port.now_ms()
    answer = tick(backend, now + 60_000)
    assert answer.what == "early"
    assert answer.last == 0
    assert now <= answer.now_ms < now + 60_000
    assert backend.pending("q") == []


def test_a_new_entry_counts_from_now_and_is_then_remembered(backend: Backend) -> None:
    last, now = backend.port.last_tick("q", "nightly", DAILY)
    assert last == now
    backend.set_last_tick("q", "nightly", (now - DAY, DAILY))
    assert backend.port.last_tick("q", "nightly", DAILY)[0] == now - DAY
    assert tick(backend, now - 5).last == now - 5
    assert backend.port.last_tick("q", "nightly", DAILY)[0] == now - 5


def test_an_entry_with_another_schedule_starts_anew(backend: Backend) -> None:
    """Else a change at noon to eleven o'clock would run at once."""
    now = backend.port.now_ms()
    backend.set_last_tick("q", "nightly", (now - DAY, "0 4 * * * UTC"))
    last, now = backend.port.last_tick("q", "nightly", DAILY)
    assert last == now
    assert backend.port.last_tick("q", "nightly", DAILY)[0] == last


def test_a_clock_that_was_set_back_a_little_is_waited_for_and_one_set_back_far_is_believed(backend: Backend) -> None:
    now = backend.port.now_ms()
    backend.set_last_tick("q", "nightly", (now + AHEAD_MS - 10_000, DAILY))
    assert backend.port.last_tick("q", "nightly", DAILY)[0] == now + AHEAD_MS - 10_000
    assert tick(backend, now)[:2] == ("held", now + AHEAD_MS - 10_000)
    backend.set_last_tick("q", "nightly", (now + AHEAD_MS + 60_000, DAILY))
    last, now = backend.port.last_tick("q", "nightly", DAILY)
    assert last == now
    assert tick(backend, now).what == "held", "that moment counts as ticked"


def test_while_its_key_is_held_a_tick_is_over_without_a_job(backend: Backend) -> None:
    now = backend.port.now_ms()
    assert tick(backend, now - 30, id="a", unique="u").what == "pushed"
    assert tick(backend, now - 20, id="b", unique="u")[:2] == ("taken", now - 20)
    assert tick(backend, now - 20, id="c", unique="u").what == "held"
    assert backend.pending("q") == [b"a"]
    hand = Hand(backend)
    hand.claim()
    hand.settle(done(b"a", None, "a", "u"))
    assert tick(backend, now - 10, id="d", unique="u").what == "pushed"
    assert (backend.unique("q", "u"), backend.stats("q")["enqueued"]) == ("d", 2)


def test_a_producers_job_holds_the_key_too(backend: Backend) -> None:
    enqueue(backend, b"mine", unique="u")
    assert tick(backend, backend.port.now_ms(), unique="u").what == "taken"


def test_a_full_queue_refuses_a_tick_and_takes_it_later(backend: Backend) -> None:
    backend.push("q", b"x")
    now = backend.port.now_ms()
    answer = tick(backend, now, max_length=1, unique="u")
    assert (answer.what, answer.length, answer.last) == ("full", 1, 0)
    assert (backend.unique("q", "u"), backend.stats("q")) == (None, {})
    Hand(backend).claim()
    assert tick(backend, now, max_length=1, unique="u").what == "pushed"


def test_an_entry_nobody_knows_any_more_is_forgotten_some_day(redis_backend: RedisBackend) -> None:
    key = redis_backend.keys("q").cron("nightly")
    redis_backend.port.last_tick("q", "nightly", DAILY)
    assert 80 * DAY < redis_backend.client.pttl(key) <= 90 * DAY
    tick(redis_backend, redis_backend.port.now_ms())
    assert 80 * DAY < redis_backend.client.pttl(key) <= 90 * DAY
    redis_backend.client.pexpire(key, 1000)
    redis_backend.port.last_tick("q", "nightly", DAILY)
    assert redis_backend.client.pttl(key) > 80 * DAY, "a steward that knows it keeps it"


def test_its_key_lies_with_the_queue_and_tells_the_last_tick(redis_backend: RedisBackend) -> None:
    now = redis_backend.port.now_ms()
    tick(redis_backend, now)
    assert redis_backend.client.get("jq:{q}:cron:nightly") == f"{now} {DAILY}".encode()


@pytest.mark.parametrize("rubbish", [b"", b"x", b"12", b" 12 x"])
def test_a_value_that_is_none_counts_as_none(redis_backend: RedisBackend, rubbish: bytes) -> None:
    redis_backend.client.set("jq:{q}:cron:nightly", rubbish)
    last, now = redis_backend.port.last_tick("q", "nightly", DAILY)
    assert last == now


def test_a_ready_list_of_another_type_refuses_the_tick_and_nothing_is_done(redis_backend: RedisBackend) -> None:
    redis_backend.client.set(redis_backend.keys("q").pending, b"a string")
    with pytest.raises(ServerRefused):
        tick(redis_backend, redis_backend.port.now_ms(), unique="u")
    assert redis_backend.client.keys("*cron*") == []
    assert redis_backend.unique("q", "u") is None
