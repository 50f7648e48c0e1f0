"""What the exporter shows and does for an operator: who may, the stream of events, and that neither is a way to hurt it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobqueue import codec
from jobqueue.job import Envelope, ErrorInfo
from tests.process.test_exporter import Exporter
from tests.support.servers import Server
from tests.support.waiting import eventually

TOKEN = "sesame"


@pytest.fixture
def exporter(tmp_path: Path, embedded_server: Server) -> Iterator[Exporter]:
    made = Exporter(tmp_path, url=embedded_server.url, token=TOKEN)
    yield made.ready()
    made.close()


def ask(exporter: Exporter, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """With the token, unless a header says otherwise; POST if there is a body."""
    host, _, port = exporter.listen.rpartition(":")
    given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | headers
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, sent, given)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def bury(server: Server, *ids: str) -> None:
    letters = {codec.encode(Envelope("t", job_id, error=ErrorInfo("E", "m"))): n + 1 for n, job_id in enumerate(ids)}
    server.client().zadd("jq:{default}:dead", letters)


@contextlib.contextmanager
def follow(exporter: Exporter) -> Iterator[Any]:
    host, _, port = exporter.listen.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with sock.makefile("rb") as stream:  # which keeps the connection open, too
            yield stream


def event(stream: Any, name: str) -> dict[str, Any]:
    """The next event of that name."""
    for line in stream:
        if line.strip() == b"event: " + name.encode():
            return dict(json.loads(next(stream).partition(b": ")[2]))
    raise AssertionError(f"the stream ended before an event {name}")


def test_the_stream_tells_what_was_and_then_what_is_once_a_second(exporter: Exporter, embedded_server: Server) -> None:
    with follow(exporter) as stream:
        assert event(stream, "hello")["actions"] is True
        first = event(stream, "now")
        assert first["queues"]["default"]["pending"] == 0
        embedded_server.client().lpush("jq:{default}:pending", b'{"type":"x"}')
        eventually(lambda: event(stream, "now")["queues"]["default"]["pending"] == 1)
        assert {w["index"] for w in event(stream, "now")["workers"]} == {0, 1}


def test_few_may_follow_and_who_leaves_makes_room(exporter: Exporter) -> None:
    with contextlib.ExitStack() as streams:
        first = [streams.enter_context(follow(exporter)) for _ in range(32)]
        for stream in first:
            assert b"200" in next(stream)
        code, answer = ask(exporter, "/api/live")
        assert code == 503
        assert "close one" in answer["error"]
        assert exporter.get("/livez")[0] in (200, 503)
    with contextlib.ExitStack() as streams:
        eventually(lambda: b"200" in next(streams.enter_context(follow(exporter))))


@pytest.mark.slow
def test_a_stream_lives_longer_than_an_answer_may_take(exporter: Exporter) -> None:
    with follow(exporter) as stream:
        end = time.monotonic() + 18
        while time.monotonic() < end:
            event(stream, "now")


def test_jobs_are_shown_to_those_with_the_token(exporter: Exporter, embedded_server: Server) -> None:
    bury(embedded_server, "a", "b")
    for path in ("/api/jobs?state=dead", "/api/job?state=dead&queue=default&ref=1-0000000000000000"):
        assert ask(exporter, path, Authorization="")[0] == 401
        assert ask(exporter, path, Authorization="Bearer wrong")[0] == 401
    code, page = ask(exporter, "/api/jobs?state=dead&limit=1")
    assert (code, [job["id"] for job in page["jobs"]]) == (200, ["b"])
    code, page = ask(exporter, f"/api/jobs?state=dead&limit=1&cursor={page['cursor']}")
    assert [job["id"] for job in page["jobs"]] == ["a"]
    code, one = ask(exporter, f"/api/job?state=dead&queue=default&ref={page['jobs'][0]['ref']}")
    assert (code, one["error"]["message"]) == (200, "m")


def test_without_a_token_jobs_are_shown_on_this_machine_and_nothing_is_done(
    tmp_path: Path, embedded_server: Server
) -> None:
    made = Exporter(tmp_path, url=embedded_server.url)
    try:
        assert ask(made.ready(), "/api/jobs?state=dead", Authorization="")[0] == 200
        assert ask(made, "/api/retry", {})[0] == 404
    finally:
        made.close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("state=dead&where=typ%3Dx", "did you mean"),
        ("state=nowhere", "no state"),
        ("state=pending", "name a queue"),
        ("state=dead&cursor=x", "cursor"),
        ("state=dead&queue=a%7Bb", "queue"),
        ("state=pending&queue=default&cursor=%C2%B2", None),
    ],
)
def test_a_question_that_makes_no_sense_is_told_so(exporter: Exporter, path: str, words: str | None) -> None:
    code, answer = ask(exporter, f"/api/jobs?{path}")
    assert code == (400 if words else 200)
    assert words is None or words in answer["error"]


def test_an_action_comes_from_our_own_page_as_json(exporter: Exporter) -> None:
    order = {"queue": "default"}
    assert ask(exporter, "/api/resume", order)[0] == 200
    assert ask(
        exporter, "/api/resume", order, **{"Sec-Fetch-Site": "same-origin", "Origin": f"http://{exporter.listen}"}
    )[0] in (200, 403)
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
    ):
        assert ask(exporter, "/api/resume", order, **headers)[0] == 403, headers
    assert ask(exporter, "/api/resume", order, **{"Content-Type": "text/plain"})[0] == 415
    for body in (b"", b"[]", b"{", b'{"queue": 1}', b'{"unknown": 1}', b"[" * 10_000, b"\xff"):
        assert ask(exporter, "/api/resume", body or b" ")[0] == 400, body
    assert ask(exporter, "/api/resume", b'"' + b"x" * (1 << 20) + b'"')[0] == 413
    assert ask(exporter, "/api/resume", {"queue": "unheard-of"})[0] == 400


def test_all_that_fit_are_retried_in_parts_and_what_is_held_stays(exporter: Exporter, embedded_server: Server) -> None:
    client = embedded_server.client()
    bury(embedded_server, *[f"n{n}" for n in range(450)])
    held = codec.encode(Envelope("t", "held", unique="k"))
    client.zadd("jq:{default}:dead", {held: 7})
    client.set("jq:{default}:unique:k", "another")
    cursor, done, kept, parts = "", 0, [], 0
    while cursor is not None:
        code, answer = ask(exporter, "/api/retry", {"all": True, "where": "type=t", "cursor": cursor})
        assert code == 200
        cursor, done, parts = answer["cursor"], done + answer["jobs"], parts + 1
        kept += answer["kept"]
    assert (done, parts, [one["id"] for one in kept]) == (450, 3, ["held"])
    assert client.llen("jq:{default}:pending") == 450
    assert client.zrange("jq:{default}:dead", 0, -1) == [held]
