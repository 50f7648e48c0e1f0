"""What a killed worker said last is in its job's dead letter: where it was, and what it printed."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from jobqueue import codec
from supervisor import metrics_dir
from tests.support.jqd import job, push
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

HANDLERS = """
import logging, os, signal, sys, time
from jobqueue import JobTimeout, handler

@handler("stuck", max_attempts=1, time_limit=0.5)
def stuck():
    print("looking at the pattern")
    logging.getLogger("app").warning("it is a long one")
    where_it_hangs()

def where_it_hangs():
    sum(range(10**14))  # C code that looks at no signal

@handler("stubborn", max_attempts=1, time_limit=0.3)
def stubborn():
    try:
        time.sleep(60)
    except JobTimeout:
        where_it_stays()

def where_it_stays():
    while True: time.sleep(60)

@handler("dies", max_attempts=1)
def dies():
    print("x" * 10_000)
    print("a last line", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)

@handler("flood")
def flood(n: int):
    for _ in range(n): logging.getLogger("app").warning("the same again")
    logging.getLogger("app").warning("another")
"""
QUEUES = {"default": {"kill_after": 1, "max_crashes": 1}}


def letter(server: Server) -> str:
    """The traceback of the one dead letter."""
    with server.client() as client:
        (element,) = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1), 30, what="the dead letter")
    error = codec.decode(element).error
    assert error is not None
    return error.traceback


def test_a_worker_killed_at_its_hard_limit_leaves_its_stack_and_its_last_output(server: Server, jqd: NewJqd) -> None:
    """Although the handler hangs in C code, where no Python runs any more."""
    one = jqd(handlers=HANDLERS, queues=QUEUES)
    with server.client() as client:
        push(client, job("stuck"))
    told = letter(server)
    assert "in where_it_hangs" in told
    assert "in stuck" in told
    assert "looking at the pattern" in told
    assert "it is a long one" in told
    assert one.stop() == 0


def test_the_stack_is_that_of_after_the_soft_limit_however_soon_the_hard_one_follows(
    server: Server, jqd: NewJqd
) -> None:
    jqd(handlers=HANDLERS, queues={"default": {**QUEUES["default"], "kill_after": 0.3}})
    with server.client() as client:
        push(client, job("stubborn"))
    assert "in where_it_stays" in letter(server)


def test_a_worker_that_dies_leaves_the_end_of_its_output(server: Server, jqd: NewJqd) -> None:
    jqd(handlers=HANDLERS, queues=QUEUES)
    with server.client() as client:
        push(client, job("dies"))
    told = letter(server)
    assert "a last line" in told
    assert len(told) < 4_000


def test_nothing_is_left_in_the_folder_in_memory(server: Server, jqd: NewJqd) -> None:
    one = jqd(handlers=HANDLERS, queues=QUEUES)
    namespace = os.stat("/proc/self/ns/pid").st_ino
    places = metrics_dir.candidates(os.environ, tempfile.gettempdir())
    found = [Path(metrics_dir.directory(place, namespace, one.pid)) for place in places]
    folder = next(place for place in found if place.exists())
    with server.client() as client:
        push(client, job("dies"))
    letter(server)
    eventually(lambda: len(list(folder.glob("words-*"))) == 2, 20, what="one file a living worker")
    assert one.stop() == 0
    assert not folder.exists()


def test_a_flood_of_identical_lines_becomes_a_few_and_a_number(server: Server, jqd: NewJqd) -> None:
    one = jqd(handlers=HANDLERS, queues=QUEUES, pools=[{"name": "default", "processes": 1, "queues": ["default"]}])
    with server.client() as client:
        push(client, job("flood", {"n": 5_000}, id="first"))
        eventually(lambda: one.events("another"), 20)
        time.sleep(5.1)  # the window, by whose end the number is told with the next line
        push(client, *[job("flood", {"n": 1}, id=f"{n}") for n in range(4)])
        eventually(lambda: [line for line in one.events("the same again") if "repeated" in line], 20)
    lines = one.events("the same again")
    assert sum(line.get("repeated", 0) for line in lines) == 5_000 - 20
    assert all(line["job"] for line in lines if "repeated" not in line), "lines of handlers name their job"
