"""What there is too little of: descriptors, processes, memory, disk. Jobs wait or run again; the master stays."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import redis

from tests.conftest import NewServer
from tests.support.jqd import HANDLERS, ROOT, job, leftovers, nothing_waits, push, stats
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

GREEDY = (
    HANDLERS
    + '''
KEPT = []

@handler("hold")
def hold(mb: int, seconds: float):
    """Memory of its own, really touched."""
    note("hold", str(mb))
    KEPT.append(bytearray(os.urandom(1024) * (1024 * mb)))
    time.sleep(seconds)

@handler("open")
def open_all():
    """Descriptors until there are no more."""
    note("open", "-")
    try:
        while True:
            KEPT.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
'''
)
ONE = {"name": "default", "processes": 1, "queues": ["default"]}


def test_a_worker_beyond_its_hard_memory_limit_is_killed_at_once_and_the_job_pays(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(handlers=GREEDY, pools=[{**ONE, "max_memory_hard": "150MiB"}]), server.client()
    push(client, job("hold", {"mb": 20, "seconds": 0}), job("hold", {"mb": 300, "seconds": 60}, max_attempts=1))
    [element] = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1), 15)
    letter = msgspec.json.decode(element)
    assert letter["error"]["kind"] == "MemoryLimit"
    assert letter["attempt"] == 1
    assert letter.get("crashes", 0) == 0
    assert [gone["cause"] for gone in one.events("worker gone")] == ["memory"]
    push(client, job("note", {"name": "after"}))
    eventually(lambda: one.runs("note"))


def test_a_worker_beyond_its_soft_memory_limit_is_replaced_after_the_job(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(handlers=GREEDY, pools=[{**ONE, "max_memory": "100MiB"}]), server.client()
    push(client, job("hold", {"mb": 200, "seconds": 1.5}))
    eventually(lambda: one.events("worker recycled for its memory"), 20)
    assert [gone["cause"] for gone in eventually(lambda: one.events("worker gone"))] == ["exited"]
    eventually(lambda: nothing_waits(client))
    assert stats(client)["processed"] == 1
    assert len(one.runs("hold")) == 1


def test_a_master_without_descriptors_waits_for_better_times(jqd: NewJqd, server: Server) -> None:
    """A steward and a worker die meanwhile, and somebody asks for a reload: nothing can be started, and nothing falls."""
    one, client = jqd(), server.client()
    used = len(os.listdir(f"/proc/{one.pid}/fd"))
    soft, hard = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(
        one.pid, resource.RLIMIT_NOFILE, (used - 2, hard)
    )  # what is closed by a death is not enough for a birth
    for pid in (*one.pids("worker"), one.pid_of("steward")):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: one.events("role not started"))
    one.send(signal.SIGHUP)
    push(client, job("note", {"name": "a"}))
    eventually(lambda: one.events("reload"))
    assert one.process is not None
    assert one.process.poll() is None
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: one.names("note") == ["a"], 20)
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_worker_whose_jobs_used_up_its_descriptors_is_replaced(jqd: NewJqd, server: Server) -> None:
    """Every later job would fail in it, and so would a new connection."""
    one, client = jqd(handlers=GREEDY, pools=[ONE]), server.client()
    [pid] = one.pids("worker")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, 64))
    push(client, job("open"))
    eventually(lambda: one.events("used up its descriptors"), 20)
    push(client, job("note", {"name": "a"}))
    eventually(lambda: one.names("note") == ["a"], 20)
    assert int(one.runs("note")[0][2]) != pid
    assert [gone["cause"] for gone in one.events("worker gone")] == ["exited"]
    assert stats(client)["processed"] == 2


def test_a_fork_that_is_refused_is_one_line_and_a_later_attempt() -> None:
    """A real EAGAIN: a user with no processes to spare."""
    if os.geteuid() != 0:
        pytest.skip("only root can become the user whose processes are counted")
    source = """
import logging, os, resource, socket, sys
from supervisor import forkserver
from supervisor.forkserver import Preloaded
logging.basicConfig(stream=sys.stdout)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
made = Preloaded(None, None, None, None, "h", "n", os.getpid(), False)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
word = {"kind": "spawn", "slot": 0, "birth": 1, "pool": "default", "index": 0, "generation": 1}
forkserver.fork_worker(made, word, theirs.fileno(), [])
theirs.close()
print("end of file" if ours.recv(10) == b"" else "something else")
"""
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, timeout=30, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )  # fmt: skip
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    assert "cannot be forked" in text
    assert "end of file" in text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 5 MB of our own."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Not one byte is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return path


def test_a_full_disk_under_metrics_and_log_stops_no_job(
    jqd: NewJqd, server: Server, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters that find no room are lost, a log line too; workers, born before or after, run jobs of types old and new."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(small_disk))
    one = jqd(log={"format": "json", "file": str(small_disk / "log")}, http={"listen": "127.0.0.1:0"})
    client = server.client()
    push(client, job("note", {"name": "before"}))
    eventually(lambda: one.runs("note"))
    eventually(lambda: list(small_disk.glob("jqd-metrics-*/*")))
    fill(small_disk)
    before = one.pids("worker")
    push(client, *(job(type_, {"name": "full"}, max_attempts=1) for type_ in ("note", "fail", "skip", "discard")))
    eventually(lambda: client.zcard("jq:{default}:dead") == 2)
    os.kill(before[0], signal.SIGKILL)
    os.kill(one.pid_of("steward"), signal.SIGKILL)
    eventually(lambda: len([pid for pid in one.pids("worker") if pid != before[0]]) == 2)
    push(client, job("sleep", {"name": "a", "seconds": 0.3}), job("sleep", {"name": "b", "seconds": 0.3}))
    eventually(lambda: sorted(one.names("slept")) == ["a", "b"])
    eventually(lambda: nothing_waits(client))
    assert before[1] in one.pids("worker"), "nobody died of it"
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_full_shared_memory_keeps_nobody_from_starting_or_working(
    jqd: NewJqd, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room in /dev/shm at the start: another place is found. None later: counters are lost, jobs are not."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        pytest.skip("a mount namespace is not permitted here")
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    one, client = jqd(start=False, http={"listen": "127.0.0.1:0"}), server.client()
    own = 'mount -t tmpfs -o size={size} tmpfs /dev/shm && {more} exec "$@"'
    for size, more, born in (("1m", "cat /dev/zero >/dev/shm/filler 2>/dev/null;", False), ("5m", "", True)):
        one.prefix = ("unshare", "--mount", "sh", "-c", own.format(size=size, more=more), "sh")
        one.start()
        shared = Path(f"/proc/{one.pid}/root/dev/shm")
        assert bool(list(shared.glob("jqd-metrics-*"))) is born
        fill(shared)
        killed, spared = one.pids("worker")
        os.kill(killed, signal.SIGKILL)
        os.kill(one.pid_of("steward"), signal.SIGKILL)
        names = [f"{size}-{i}" for i in range(4)]
        push(
            client,
            *(job("sleep", {"name": name, "seconds": 0.1}) for name in names),
            job("fail", {"name": size}, max_attempts=1),
        )
        eventually(lambda names=names: set(names) <= set(one.names("slept")), 20)  # type: ignore[misc]
        eventually(lambda: nothing_waits(client))
        one.wait_ready()
        assert spared in one.pids("worker"), "nobody died of it"
        assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_server_without_memory_refuses_new_jobs_and_lets_the_old_ones_run(jqd: NewJqd, new_server: NewServer) -> None:
    """Enqueueing says so; what waits is run, retried and buried, and nothing is dropped."""
    from jobqueue import JobQueue
    from jobqueue.errors import JobQueueError

    server = new_server(appendonly=True, maxmemory="12mb")
    client = server.client()
    push(
        client,
        *(job("note", {"name": str(i)}) for i in range(20)),
        job("fail", {"name": "f"}, max_attempts=3),
        job("skip", {"name": "s"}),
    )
    for size in (400_000, 10_000, 200):
        with pytest.raises(redis.exceptions.ResponseError, match="maxmemory"):
            for _ in range(20_000):
                client.rpush("filler", b"x" * size)
    with JobQueue(server.url) as queue, pytest.raises(JobQueueError, match=r"(?i)memory"):
        for _ in range(5_000):
            queue.enqueue("noop")
    one = jqd(url=server.url)
    eventually(lambda: sorted(one.names("note"), key=int) == [str(i) for i in range(20)], 15)
    eventually(lambda: len(one.runs("fail")) == 3 and client.zcard("jq:{default}:dead") == 2, 15)
    eventually(lambda: nothing_waits(client))
    client.delete("filler")
    with JobQueue(server.url) as queue:
        queue.enqueue("note", {"name": "again"})
    eventually(lambda: one.names("note")[-1] == "again")
    assert one.stop() == 0


def test_the_worker_is_gone_and_so_is_what_it_started(jqd: NewJqd, server: Server) -> None:
    """A hard kill for memory takes the job's children along, whatever they hold."""
    source = (
        GREEDY
        + """
import subprocess
@handler("both")
def both():
    child = subprocess.Popen([__import__("sys").executable, "-c", "import time; time.sleep(300)"])
    open("child", "w").write(str(child.pid))
    hold(300, 60)
"""
    )
    one, client = jqd(handlers=source, pools=[{**ONE, "max_memory_hard": "150MiB"}]), server.client()
    push(client, job("both", max_attempts=1))
    child = int(eventually(lambda: (one.folder / "child").exists() and (one.folder / "child").read_text()))
    eventually(lambda: client.zcard("jq:{default}:dead") == 1, 15)
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
