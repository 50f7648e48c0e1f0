"""jqd as process 1 of a pid namespace, as in a container: signals reach it, strangers are reaped, and all leave with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.conftest import NewServer
from tests.support.jqd import Jqd, job, leftovers, push
from tests.support.waiting import eventually

UNSHARE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
ORPHANS = '''
import os, subprocess
from jobqueue import handler

@handler("orphan")
def orphan(n: int):
    """Leave a grandchild behind that lives on, as a shell script with & does."""
    subprocess.Popen(["sh", "-c", f"setsid sh -c 'sleep 0.2; echo {n} >> orphans' & exit 0"]).wait()

@handler("sleep")
def sleep(seconds: float):
    import time
    open("begun", "a").write("x")
    time.sleep(seconds)
    open("ended", "a").write("x")
'''


def why_not() -> str | None:
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        return "pid namespaces cannot be made here"
    return None


class Contained(Jqd):
    """A Jqd whose master is process 1 of a namespace of its own; `pid` is its number outside."""

    @property
    def pid(self) -> int:
        assert self.process is not None
        children = eventually(lambda: psutil.Process(self.process.pid).children(), 10, what="process 1")  # type: ignore[union-attr]
        return int(children[0].pid)


@pytest.fixture
def contained(tmp_path: Path, new_server: NewServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Contained]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    starter = tmp_path / "as_process_1.py"
    starter.write_text(
        "import os, sys\n"
        f"os.execvp('unshare', {[*UNSHARE, '--']!r} + [sys.executable, '-m', 'supervisor.cli', '-c', *sys.argv[1:]])\n"
    )
    monkeypatch.setenv("JQD_TEST_RUN", str(starter))
    folder = tmp_path / "jqd"
    folder.mkdir()
    one = Contained(folder, new_server(appendonly=True).url, handlers=ORPHANS)
    yield one
    one.close()


def zombies(one: Contained) -> list[psutil.Process]:
    return [process for process in one.children() if process.status() == psutil.STATUS_ZOMBIE]


def test_process_1_runs_jobs_and_reaps_strangers_without_counting_them(contained: Contained) -> None:
    assert Path(f"/proc/{contained.pid}/status").read_text().split("NSpid:")[1].splitlines()[0].split()[-1] == "1"
    client = redis.Redis(unix_socket_path=contained.url.removeprefix("unix://"))
    push(client, *(job("orphan", {"n": n}) for n in range(8)))
    eventually(
        lambda: (contained.folder / "orphans").exists() and len((contained.folder / "orphans").read_text().split()) == 8
    )
    eventually(lambda: not zombies(contained), 5, what="every orphan is reaped")
    assert contained.events("worker gone") == []
    client.close()


def test_term_drains_although_process_1_has_no_default_actions(contained: Contained) -> None:
    client = redis.Redis(unix_socket_path=contained.url.removeprefix("unix://"))
    push(client, job("sleep", {"seconds": 1.0}), job("sleep", {"seconds": 1.0}), job("sleep", {"seconds": 1.0}))
    eventually(lambda: (contained.folder / "begun").exists() and len((contained.folder / "begun").read_text()) == 2)
    process = contained.process
    assert process is not None
    os.kill(contained.pid, signal.SIGTERM)
    assert process.wait(20) == 0
    assert len((contained.folder / "ended").read_text()) == 2
    assert leftovers(client) == {}
    assert client.llen("jq:{default}:pending") == 1
    client.close()


def test_term_in_the_first_moment_ends_it_too(contained: Contained) -> None:
    """A container that is stopped while it starts must not wait for its KILL."""
    first = contained.process
    assert first is not None
    os.kill(contained.pid, signal.SIGTERM)
    first.wait(20)
    contained.start(wait=False)
    assert contained.process is not None
    master = psutil.Process(contained.pid)
    eventually(
        lambda: int(_caught(master.pid), 16) & 1 << (signal.SIGTERM - 1), 10, every=0.001, what="a handler of TERM"
    )
    master.send_signal(signal.SIGTERM)
    assert contained.process.wait(15) == 0


def _caught(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
