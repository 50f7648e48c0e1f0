"""Dead letters and scheduled jobs of many queues as one stream: every one once, in order, whatever happens meanwhile."""

from __future__ import annotations

import random

import pytest

from jobqueue import JobQueue, codec, where
from jobqueue.errors import InvalidJob
from jobqueue.job import Envelope, ErrorInfo
from jobqueue.redis import ranked
from jobqueue.redis.browse import Browser
from jobqueue.redis.inspect import Inspector
from jobqueue.redis.operate import Operator
from jobqueue.settings import QueueSettings
from tests.support.servers import Server

RAW = {"notifications": QueueSettings(key="jobs", codec="raw", handler="notify")}
QUEUES = ["a", "b", "c"]


@pytest.fixture
def operator(embedded_server: Server) -> Operator:
    with JobQueue(embedded_server.url, queues=RAW) as queue:
        return Operator(Browser(Inspector(queue.redis, queue.queues)))


def bury(server: Server, score: int, queue: str = "a", **fields: object) -> str:
    envelope = Envelope(**{"type": "t", "id": f"{queue}{score}"} | fields)  # type: ignore[arg-type]
    server.one_client.zadd(f"jq:{{{queue}}}:dead", {codec.encode(envelope): score})
    return envelope.id


def walk(operator: Operator, limit: int, *, taking: bool = False) -> list[str]:
    cursor, seen = "", []
    while True:
        page = ranked.page(operator.browser, QUEUES, "dead", cursor=cursor, limit=limit)
        seen += [entry.envelope.id for entry in page.entries]
        if taking:
            for entry in page.entries:
                operator.drop([entry])
        if page.cursor is None:
            return seen
        cursor = page.cursor


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_every_letter_once_the_latest_first_also_among_equals(
    embedded_server: Server, operator: Operator, limit: int
) -> None:
    rng = random.Random(limit)
    scores = {bury(embedded_server, s := rng.randrange(1, 40), rng.choice(QUEUES), id=f"{n}"): s for n in range(150)}
    seen = walk(operator, limit)
    assert len(seen) == len(set(seen)) == 150
    times = [scores[one] for one in seen]
    assert times == sorted(times, reverse=True)


def test_nothing_is_skipped_while_letters_of_other_moments_are_taken_away(
    embedded_server: Server, operator: Operator
) -> None:
    buried = {bury(embedded_server, score, QUEUES[score % 3]) for score in range(1, 300)}
    assert set(walk(operator, 10, taking=True)) == buried


def test_scheduled_jobs_come_in_the_order_in_which_they_run(embedded_server: Server, operator: Operator) -> None:
    for score in (30, 10, 20):
        element = codec.encode(Envelope(type="t", id=str(score)))
        embedded_server.client().zadd(f"jq:{{{QUEUES[score % 3]}}}:scheduled", {element: score})
    page = ranked.page(operator.browser, QUEUES, "scheduled")
    assert [entry.envelope.id for entry in page.entries] == ["10", "20", "30"]


def test_a_filter_that_nothing_fits_stops_after_a_bounded_look(
    embedded_server: Server, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for score in range(1, 101):
        bury(embedded_server, score)
    monkeypatch.setattr(ranked, "LOOKS", 30)
    page = ranked.page(operator.browser, ["a"], "dead", where.parse("id=a1"))
    assert (page.entries, page.looked) == ([], 30)
    assert page.cursor is not None
    looks = 1
    while not page.entries:
        page = ranked.page(operator.browser, ["a"], "dead", where.parse("id=a1"), page.cursor or "")
        looks += 1
    assert looks == 4


def test_a_reference_names_these_very_bytes(embedded_server: Server, operator: Operator) -> None:
    for n in range(3):
        bury(embedded_server, 5, id="same", payload={"n": n})
    entries = ranked.page(operator.browser, ["a"], "dead").entries
    refs = {ranked.reference(entry): entry.element for entry in entries}
    assert len(refs) == 3
    for ref, element in refs.items():
        found = ranked.find(operator.browser, "a", "dead", ref)
        assert found is not None
        assert found.element == element
    assert ranked.find(operator.browser, "a", "dead", "5-0000000000000000") is None


@pytest.mark.parametrize("text", ["", "x", "5", "5-", "-", "5-zz", "9" * 30 + "-" + "0" * 16, "５-0000000000000000"])
def test_a_reference_that_is_none_is_an_error_that_says_so(operator: Operator, text: str) -> None:
    with pytest.raises(ranked.BadReference):
        ranked.find(operator.browser, "a", "dead", text)


def test_an_edited_letter_keeps_all_but_its_payload(embedded_server: Server, operator: Operator) -> None:
    bury(embedded_server, 5, payload={"n": 1}, error=ErrorInfo("E", "m"), attempt=3, unique="u")
    (entry,) = operator.browser.ls("a", "dead")
    with pytest.raises(InvalidJob, match="not JSON"):
        operator.edit(entry, b"{n: 2}")
    edited = operator.edit(entry, b'{"n": 12345678901234567890}')
    (found,) = operator.browser.ls("a", "dead")
    assert edited is not None
    assert (found.element, found.score_ms) == (edited.element, 5)
    assert found.payload == b'{"n": 12345678901234567890}'
    assert (found.envelope.error, found.envelope.attempt, found.envelope.unique) == (ErrorInfo("E", "m"), 3, "u")
    assert operator.edit(entry, b"{}") is None, "a second operator comes too late"


def test_raw_and_unreadable_letters_are_edited_as_bytes(embedded_server: Server, operator: Operator) -> None:
    client = embedded_server.client()
    client.zadd("jq:{jobs}:dead", {b"old bytes": 5})
    client.zadd("jq:{a}:dead", {b"{no json": 5})
    for queue, new in (("notifications", b"new \xff bytes"), ("a", b'{"type": "t", "payload": {"n": 1}}')):
        (entry,) = operator.browser.ls(queue, "dead")
        edited = operator.edit(entry, new)
        assert edited is not None
        assert operator.retry(edited).ok
    assert codec.body(client.lindex("jobs", 0)) == b"new \xff bytes"
    envelope = codec.decode(client.lindex("jq:{a}:pending", 0))
    assert (envelope.type, bytes(envelope.payload)) == ("t", b'{"n": 1}')
