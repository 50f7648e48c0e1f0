"""Claiming ahead must do nobody any harm: what is held behind a job that turns out long is handed back, whatever that job does."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

import pytest

from tests.support.jqd import HANDLERS, Jqd, job, nothing_waits, push, stats
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

SPELLS = (
    HANDLERS
    + '''
import ctypes, fcntl
C = ctypes.PyDLL(None)  # whose calls keep the interpreter to themselves

@handler("spell")
def spell(name: str, ms: float = 0, how: str = ""):
    """Sleeps for `ms`; then waits for the lock that the test has: in a call, in Python code, or in one call of C code that
    keeps the interpreter to itself."""
    note("spell", name)
    time.sleep(ms / 1000)
    if how:
        with open("gate") as gate:
            if how == "sleep":
                fcntl.flock(gate, fcntl.LOCK_EX)
            elif how == "c":
                while C.flock(gate.fileno(), fcntl.LOCK_EX): pass
            while how == "python":
                try:
                    fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pass
    note("spelt", name)
'''
)


@contextlib.contextmanager
def gate(one: Jqd) -> Iterator[None]:
    """Closed meanwhile: jobs that want to pass wait."""
    with (one.folder / "gate").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def warm(one: Jqd, server: Server, n: int = 200) -> None:
    """Make the type known as short to every worker: claims grow to their full size."""
    push(server.client(), *(job("spell", {"name": f"w{i}"}) for i in range(n)))
    eventually(lambda: len(one.runs("spelt")) == n)


@pytest.mark.parametrize("how", ["sleep", "python", "c"])
def test_one_long_job_among_thousands_of_tiny_ones_holds_up_none(jqd: NewJqd, server: Server, how: str) -> None:
    one, client = jqd(handlers=SPELLS), server.client()
    warm(one, server)
    tiny = [job("spell", {"name": str(i)}) for i in range(2000)]
    with gate(one):
        push(client, *tiny[:1000], job("spell", {"name": "long", "how": how}), *tiny[1000:])
        eventually(lambda: len(one.runs("spelt")) == 2200, 40, what="every tiny job done while the long one runs")
        assert "long" in one.names("spell")
    eventually(lambda: "long" in one.names("spelt"))
    assert len(one.runs("spell")) == 2201, "none ran twice"
    eventually(lambda: nothing_waits(client))


def test_jobs_that_all_turn_out_longer_wait_for_nobody(jqd: NewJqd, server: Server) -> None:
    """64 jobs of 15 ms of a type that was tiny before: one worker claims many of them, the other must get its share."""
    one, client = jqd(handlers=SPELLS), server.client()
    warm(one, server)
    push(client, *(job("spell", {"name": str(i), "ms": 15}) for i in range(64)))
    eventually(lambda: len(one.runs("spelt")) == 264)
    by_worker = {
        pid: sum(1 for run in one.runs("spell")[200:] if run[2] == pid) for pid in {run[2] for run in one.runs("spell")}
    }
    assert len(one.runs("spell")) == 264
    assert min(by_worker.values()) >= 8, f"both workers did them: {by_worker}"


def test_no_finished_job_retry_or_unique_key_waits_behind_a_long_job(jqd: NewJqd, server: Server) -> None:
    one = jqd(handlers=SPELLS, pools=[{"name": "default", "processes": 1, "queues": ["default"]}])
    client = server.client()
    warm(one, server)
    client.set("jq:{default}:unique:k", "u1")
    push(
        client,
        job("spell", {"name": "first"}),
        job("spell", {"name": "unique"}, id="u1", unique="k"),
        job("fail", {"name": "retry"}, max_attempts=5),
        job("sleep", {"name": "long", "seconds": 2.0}),
    )
    eventually(lambda: one.runs("sleep"))
    assert stats(client)["processed"] == 202, "what was finished is settled before the long job starts"
    assert not client.exists("jq:{default}:unique:k")
    assert client.zcard("jq:{default}:scheduled") == 1
    assert not one.runs("slept")
    eventually(lambda: one.runs("slept"))


def test_claim_max_one_turns_it_off(jqd: NewJqd, server: Server) -> None:
    one = jqd(handlers=SPELLS, pools=[{"name": "default", "processes": 1, "queues": ["default"], "claim_max": 1}])
    client = server.client()
    warm(one, server)
    with gate(one):
        push(
            client, job("spell", {"name": "long", "how": "sleep"}), *(job("spell", {"name": str(i)}) for i in range(20))
        )
        eventually(lambda: "long" in one.names("spell"))
        assert [client.llen(key) for key in client.keys("*:processing:*")] == [1], "only the running one"
    eventually(lambda: len(one.runs("spelt")) == 221)
