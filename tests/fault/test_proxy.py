"""The proxy does what it says to the bytes between a client and a real server: else the search would prove nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import NewServer
from tests.fault import resp
from tests.fault.proxy import Answer, Cut, Deaf, HalfOpen, Hold, Proxy, Rule, Side, Verdict
from tests.support.servers import Server
from tests.support.waiting import eventually


@pytest.fixture
def server(new_server: NewServer) -> Server:
    return new_server()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(Path(server.folder) / "proxy.sock", server.socket_path) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    with redis.Redis(
        unix_socket_path=str(proxy.path), protocol=2, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)
    ) as made:
        made.ping()
        yield made


def rule(verdict: Verdict, side: Side, verb: str = "LPUSH") -> Rule:
    return Rule(lambda _event: verdict, verb=verb, side=side)


def test_frames_are_found_in_whatever_pieces_they_come() -> None:
    frames = [
        b"+OK\r\n",
        b":3\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"$0\r\n\r\n",
        b"*0\r\n",
    ]
    whole = b"".join(frames)
    for size in (1, 2, 3, 7, len(whole)):
        splitter, found = resp.Splitter(), []
        for at in range(0, len(whole), size):
            found += splitter.feed(whole[at : at + size])
        assert found == frames


def test_nothing_is_changed_while_no_rule_is_armed(client: redis.Redis, server: Server) -> None:
    value = bytes(range(256)) * 5000
    client.set("k", value)
    assert client.get("k") == value == server.client().get("k")
    assert client.execute_command("LRANGE", "none", 0, -1) == []


def test_a_command_cut_before_is_never_executed_and_one_cut_after_is(
    client: redis.Redis, proxy: Proxy, server: Server
) -> None:
    for side, length in (("before", 0), ("after", 1)):
        proxy.arm(rule(Cut(), side))  # type: ignore[arg-type]
        with pytest.raises(redis.ConnectionError):
            client.lpush("list", "x")
        assert server.client().llen("list") == length


def test_a_half_open_connection_executes_what_its_dead_client_sent(
    client: redis.Redis, proxy: Proxy, server: Server
) -> None:
    proxy.arm(rule(HalfOpen(), "before", "BLMOVE"))
    with pytest.raises(redis.ConnectionError):
        client.blmove("a", "b", 5)
    server.client().lpush("a", "x")
    eventually(lambda: server.client().lrange("b", 0, -1) == [b"x"])


def test_a_held_command_arrives_although_its_sender_has_given_up(
    client: redis.Redis, proxy: Proxy, server: Server
) -> None:
    proxy.arm(rule(Hold(0.5), "before"))
    start = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        client.lpush("list", "x")
    assert server.client().llen("list") == 0
    eventually(lambda: server.client().llen("list") == 1)
    assert time.monotonic() - start >= 0.5


def test_a_swallowed_reply_means_executed_and_silence(client: redis.Redis, proxy: Proxy, server: Server) -> None:
    proxy.arm(rule(Deaf(), "after"))
    with pytest.raises(redis.TimeoutError):
        client.lpush("list", "x")
    assert server.client().llen("list") == 1


def test_an_error_of_ours_stands_in_its_place_in_a_pipeline_and_the_command_is_not_executed(
    client: redis.Redis, proxy: Proxy, server: Server
) -> None:
    proxy.arm(rule(Answer("OOM no"), "before"))
    pipe = client.pipeline(transaction=False).set("a", 1).lpush("list", "x").get("a")
    first, refused, last = pipe.execute(raise_on_error=False)
    assert (first, last) == (True, b"1")
    assert isinstance(refused, redis.ResponseError)
    assert server.client().llen("list") == 0


def test_rules_count_per_verb_and_side_and_fire_once(client: redis.Redis, proxy: Proxy, server: Server) -> None:
    third = Rule(lambda _event: Cut(), role="producer", verb="LPUSH", side="after", number=3)
    proxy.arm(third)
    for _ in range(2):
        client.lpush("list", "x")
        client.get("a")
    with pytest.raises(redis.ConnectionError):
        client.lpush("list", "x")
    assert third.fired.is_set()
    assert client.lpush("list", "x") == 4
    assert [e.number for e in proxy.events if (e.verb, e.side) == ("LPUSH", "before")] == [1, 2, 3, 4]
