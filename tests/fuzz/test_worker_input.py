"""Whatever bytes lie in a queue: a real worker on a real server takes each once, disposes of it, and works on."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobqueue import codec
from jobqueue.handlers import Registry, TypePolicy
from jobqueue.kinds import Kinds
from jobqueue.redis.connect import Endpoint
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire
from jobqueue.settings import Backoff, QueueSettings
from jobqueue.surroundings import Surroundings
from jobqueue.worker import Worker
from supervisor.recovery import Told, settlements
from tests.support.servers import Server
from tests.unit.test_worker import Board, Meter

pytestmark = pytest.mark.timeout(240)
FUZZ = hypothesis_settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
QUICKLY = QueueSettings(max_attempts=2, max_crashes=2, backoff=Backoff(base=0.001, max=0.001, jitter="none"))
RAW = QueueSettings(max_attempts=2, codec="raw", handler="raw", backoff=QUICKLY.backoff)

text = st.text(max_size=20) | st.sampled_from(["", "known", "\x1b[2J", "\u0000", "../..", "{q}", "é" * 9])
number = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 2**53, 2**63, -1, 1e308])
value = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
field = st.sampled_from(
    ["type", "id", "payload", "queue", "attempt", "crashes", "max_attempts", "enqueued_at", "expires_at", "time_limit", "unique", "headers", "error", "v", "extra"]
)  # fmt: skip
right = {
    "type": st.sampled_from(["known", "picky", "unknown"]), "id": st.text(max_size=8), "attempt": st.integers(0, 2**53 - 1), "crashes": st.integers(0, 9),
    "max_attempts": st.integers(1, 9), "unique": st.text(max_size=5), "expires_at": st.integers(0, 2**53 - 1), "time_limit": st.floats(0.001, 1e300),
    "v": st.integers(-3, 9), "payload": value, "headers": st.dictionaries(text, text, max_size=3),
}  # fmt: skip


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Mostly right, somewhere wrong; as JSON writers of other languages may put it, NaN and lone surrogates included."""
    made: dict[str, Any] = {"type": draw(right["type"])}
    for name in draw(st.lists(st.sampled_from(sorted(right)), max_size=6)):
        made[name] = draw(right[name])
    for name in draw(st.lists(field, max_size=2)):
        made[name] = draw(value)
    return json.dumps(made, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """An envelope with some bytes changed, cut or doubled."""
    data = bytearray(draw(envelopes()))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data[at : at + draw(st.integers(0, 5))] = draw(st.binary(max_size=5))
    return bytes(data)


wrapped = st.builds(
    lambda n, head, rest: codec.MAGIC + n.to_bytes(4, "big") + head + rest,
    st.integers(0, 2**32 - 1),
    envelopes(),
    st.binary(max_size=20),
)
honest = st.builds(
    lambda head, rest: codec.MAGIC + len(head).to_bytes(4, "big") + head + rest, envelopes(), st.binary(max_size=20)
)
deep = st.builds(
    lambda n, c: b'{"type":"known","payload":' + c * n, st.integers(1, 20_000), st.sampled_from([b"[", b'{"a":'])
)
element = envelopes() | torn() | wrapped | honest | st.binary(max_size=60) | deep


class Alone:
    """The worker's session on one connection; it never waits: an empty queue is the end."""

    def __init__(self, wire: Wire, worker: list[Worker]) -> None:
        self.port, self._worker, self.waits = RedisQueue(wire, "jq", {"q": QUICKLY, "raw": RAW}, (7, 0, 0)), worker, 0

    def wait(self, queues: Sequence[str], timeout: float) -> Sequence[str]:
        time.sleep(0.002)  # longer than any retry waits
        moved = sum(self.port.promote(queue)[0] for queue in ("q", "raw"))
        self.waits += not moved
        self._worker[0].stopping = self.waits > 1
        return queues

    def owes(self) -> bool:
        return False

    def settled(self) -> bool:
        return False

    def close(self) -> None: ...


def known() -> None: ...


def picky(number: int, name: str = "") -> None: ...


def raw(body: bytes) -> None:
    if b"x" in body:
        raise ValueError(body)


def registry() -> Registry:
    made = Registry()
    for name, function in (("known", known), ("picky", picky), ("raw", raw)):
        made.add(function, TypePolicy(name))
    return made.prepare()


def live(wire: Wire) -> tuple[Worker, list[tuple[str, Mapping[str, Any]]]]:
    told: list[tuple[str, Mapping[str, Any]]] = []
    workers: list[Worker] = []
    session = Alone(wire, workers)
    around = Surroundings(
        connect=lambda: session, pause=lambda _: None, board=Board(), meter=Meter(), log=lambda event, fields: told.append((event, fields)),
        title=lambda _: None, recycle_due=lambda _: False,
    )  # fmt: skip
    kinds = Kinds(registry(), lambda queue: RAW if queue == "raw" else QUICKLY, 0.005, 64)
    workers.append(Worker("host.nonce.pool-0.1-2-3", ("q", "raw"), None, kinds, around, random.Random(1)))
    return workers[0], told


@pytest.fixture(scope="module")
def wire(_embedded: Server) -> Iterator[Wire]:
    opened = Wire(Endpoint(path=_embedded.socket_path), "fuzz", 10.0)
    yield opened
    opened.close()


@FUZZ
@given(st.lists(element, min_size=1, max_size=12), st.lists(element, max_size=6))
def test_every_element_comes_to_an_end_and_the_worker_lives(wire: Wire, jobs: list[bytes], raws: list[bytes]) -> None:
    """Done, dead, discarded, expired, or put off because it is of a newer version: nothing is lost, nothing stays in a list."""
    wire.call("FLUSHDB")
    for queue, elements in (("q", jobs), ("raw", raws)):
        for one in elements:
            wire.call("LPUSH", f"jq:{{{queue}}}:pending", one)
    worker, told = live(wire)
    assert worker.run() == "stopping"
    assert not [event for event, _ in told if event not in ("unknown_type",)], told
    for queue, elements in (("q", jobs), ("raw", raws)):
        flat = wire.call("HGETALL", f"jq:{{{queue}}}:stats")
        totals = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        waits = wire.call("ZCARD", f"jq:{{{queue}}}:scheduled")
        ended = sum(totals.get(name, 0) for name in ("processed", "dead", "discarded", "expired", "cancelled"))
        assert ended + waits == len(elements), (totals, waits)
        assert wire.call("LLEN", f"jq:{{{queue}}}:pending") == 0
        for left in wire.call("ZRANGE", f"jq:{{{queue}}}:scheduled", 0, -1):
            assert codec.newer(codec.decode(left, raw_type="raw" if queue == "raw" else None)), left
    assert not [key for key in wire.call("KEYS", "*") if b":processing:" in key]


@FUZZ
@given(
    element,
    st.sampled_from(["crashed", "hard_limit", "memory", "oom", "drain", "lost", "no such cause"]),
    st.booleans(),
)
def test_what_a_dead_worker_held_is_put_somewhere_whatever_it_is(one: bytes, cause: str, is_raw: bool) -> None:
    """A steward that falls over a payload would leave all jobs of that worker where they are."""
    row = {"start_ns": 1, "queue": "q", "trip": 3, "started": 1}
    told = Told(1, "w", cause, "", row, 0.0)
    answer = settlements(
        told, "q", 3, [one, one], settings=RAW if is_raw else QUICKLY, policies={}, now_ms=1, random=lambda: 0.5
    )
    assert len(answer) == 2
    assert all(settlement.element == one for settlement in answer)
