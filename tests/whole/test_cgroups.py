"""What the kernel takes away from a whole group of processes: memory, and the right to have another process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support import cgroups
from tests.support.jqd import job, leftovers, push
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd
from tests.whole.test_resources import GREEDY, ONE


@pytest.fixture
def memory() -> Iterator[Path]:
    with cgroups.group("memory") as folder:
        if folder is None:
            pytest.skip("no memory cgroup may be made here")
        yield folder


@pytest.fixture
def pids() -> Iterator[Path]:
    with cgroups.group("pids") as folder:
        if folder is None:
            pytest.skip("no pids cgroup may be made here")
        yield folder


def test_the_kernels_oom_kill_is_named_and_costs_an_attempt(memory: Path, jqd: NewJqd, server: Server) -> None:
    one, client = jqd(handlers=GREEDY, pools=[ONE], start=False), server.client()
    limit = next(path for path in (memory / "memory.max", memory / "memory.limit_in_bytes") if path.exists())
    limit.write_text(str(400 << 20))
    one.prefix = cgroups.entering(memory)  # the master looks for its cgroup when it starts: it is born in this one
    one.start()
    push(client, job("hold", {"mb": 2000, "seconds": 60}, max_attempts=1))
    [element] = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1), 20)
    assert msgspec.json.decode(element)["error"]["kind"] == "OutOfMemory"
    assert [gone["cause"] for gone in one.events("worker gone")] == ["oom"], "the worker, and nobody else"
    assert not one.events("role gone")
    assert one.stop() == 0


def test_while_no_process_may_be_made_jobs_wait_and_the_master_stays(pids: Path, jqd: NewJqd, server: Server) -> None:
    """A real EAGAIN for the forkserver, which has to replace workers, and for the master, who has to replace a steward and is
    asked for a reload."""
    one, client = jqd(start=False), server.client()
    one.prefix = cgroups.entering(pids)
    one.start()
    (pids / "pids.max").write_text("1")
    killed = [*one.pids("worker"), one.pid_of("steward")]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    push(client, *(job("note", {"name": str(i)}) for i in range(5)))
    eventually(lambda: one.events("role not started"))
    eventually(lambda: "cannot be forked" in one.text())
    one.send(signal.SIGHUP)
    eventually(lambda: one.events("reload"))
    assert one.process is not None
    assert one.process.poll() is None
    assert one.runs("note") == []
    (pids / "pids.max").write_text("max")
    eventually(lambda: sorted(one.names("note")) == [str(i) for i in range(5)], 30)
    eventually(lambda: [line for line in one.events("reload") if line["event"] == "reloaded"], 30)
    assert one.stop() == 0
    assert leftovers(client) == {}
