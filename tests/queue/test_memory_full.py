"""When the server's memory is full nothing can be put in, and everything else still works: running jobs is what frees memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobqueue import codec
from jobqueue.errors import ServerRefused
from jobqueue.job import Envelope, ErrorInfo
from jobqueue.outcome import Bury, Requeue, Retry
from jobqueue.port import Enqueued, NewJob
from jobqueue.redis.browse import Browser
from jobqueue.redis.inspect import Inspector
from jobqueue.redis.operate import Operator
from jobqueue.redis.scripts import parse_version
from jobqueue.settings import RedisSettings
from tests.queue.backends import RedisBackend
from tests.queue.hands import LEASE_MS, Hand, done
from tests.support.servers import Server, debian_binary, embedded_binary, further_binaries
from tests.support.waiting import eventually


@pytest.fixture(params=["embedded", "debian", *(further_binaries() or ["further"])])
def full(request: pytest.FixtureRequest, new_server: Callable[..., Server]) -> RedisBackend:
    """A server filled by a producer until it said OOM; workers w1 and w2 had joined before."""
    here = {"embedded": embedded_binary(), "debian": debian_binary(), **further_binaries()}
    binary = here.get(request.param)
    if binary is None:
        pytest.skip(f"no {request.param} server")
    server = new_server(binary=binary, maxmemory="6mb")
    version = parse_version(request.param.partition("-")[2]) if "-" in request.param else (7, 0, 0)
    backend = RedisBackend(server.client, {}, version)
    for n in range(10_000):
        (answer,) = backend.port.enqueue([NewJob("q", f"j{n}", b"%05d" % n + b"x" * 20_000)])
        if isinstance(answer, Exception):
            assert isinstance(answer, ServerRefused) and answer.code == "OOM"
            (answer,) = backend.port.enqueue([NewJob("q", "u", b"u" * 20_000, unique="u")])
            assert isinstance(answer, ServerRefused)
            assert backend.unique("q", "u") is None
            return backend
    raise AssertionError("the memory was never full")


def test_workers_and_stewards_go_on(full: RedisBackend) -> None:
    hand = Hand(full, "w1")
    jobs = hand.claim(8)
    assert len(jobs) == 8
    claim = hand.settle(
        done(jobs[0]),
        done(jobs[1], Retry(1, jobs[1] + b"r"), "r"),
        done(jobs[2], Bury(jobs[2] + b"b"), "b"),
        done(jobs[3], Requeue(jobs[3] + b"q"), "q"),
        keep=2,
    )
    assert claim.length == 2
    assert full.port.beat("q", ["w1"], LEASE_MS) == 1
    assert full.port.hand_back("w1", "q", 2, 1) == 1
    assert eventually(lambda: full.port.promote("q")[0]) == 1
    applied, held = full.port.fence("w1", "q")
    assert (applied, len(held)) == (2, 1)
    assert full.port.recover("w1", "q", [done(held[0], Requeue(), "x")], "recovered") == 0
    assert full.port.return_next("q") == 0


def test_a_worker_finds_its_way_after_a_lost_reply(full: RedisBackend) -> None:
    hand = Hand(full, "w1")
    jobs = hand.claim(2)
    assert full.port.reconcile("w1", 5, ["q"]).lists == {"q": jobs}


def test_operators_revive_promote_and_purge(full: RedisBackend) -> None:
    """What frees memory, and what only moves a job from one key to another."""
    client, keys = full.client, full.keys("q")
    client.config_set("maxmemory", 0)
    letters = [codec.encode(Envelope(type="t", id=name, error=ErrorInfo("E", "m"))) for name in ("a", "b")]
    client.zadd(keys.dead, dict.fromkeys(letters, 1000))
    client.zadd(keys.scheduled, {codec.encode(Envelope(type="t", id="later")): 4_000_000_000_000})
    client.sadd("jq:queues", "q")
    client.config_set("maxmemory", 1_000_000)
    path = client.connection_pool.connection_kwargs["path"]
    operator = Operator(Browser(Inspector(RedisSettings(url=f"unix://{path}"))))
    (first, second) = operator.browser.ls("q", "dead")
    assert operator.retry(first).ok
    assert operator.drop([second]) == 1
    (later,) = operator.browser.ls("q", "scheduled")
    assert operator.promote(later)
    waiting = len(full.pending("q"))
    assert sum(operator.purge("q")) == waiting
    assert not full.pending("q")


def test_a_full_queue_drains_and_takes_jobs_again(full: RedisBackend) -> None:
    hand, waiting = Hand(full, "w1"), len(full.pending("q"))
    claim = hand.settle(want=16)
    ran = 0
    while claim.jobs:
        ran += len(claim.jobs)
        claim = hand.settle(*map(done, claim.jobs), want=16)
    assert ran == waiting
    assert full.port.enqueue([NewJob("q", "a", b"a")]) == [Enqueued("a", False)]


def test_a_tick_is_refused_and_nothing_is_done(full: RedisBackend) -> None:
    """It is pushed when there is room again, so a steward may ask from when on it counts all the same."""
    schedule = "* * * * * UTC"
    last, _ = full.port.last_tick("q", "nightly", schedule)
    eventually(lambda: full.port.now_ms() > last)
    with pytest.raises(ServerRefused) as refused:
        full.port.tick("nightly", schedule, last + 1, NewJob("q", "t", b"t" * 20_000, unique="t"))
    assert refused.value.code == "OOM"
    assert full.unique("q", "t") is None
    assert full.port.last_tick("q", "nightly", schedule)[0] == last
