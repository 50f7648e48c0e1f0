"""Processes that do not die but hang: each is noticed, replaced, and what it held runs again."""

from __future__ import annotations

import os
import signal

import psutil

from tests.support.jqd import idle_for, job, leftovers, nothing_waits, push
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

QUICK = {"url": "", "socket_timeout": "1s"}
STUBBORN = '''
import os, signal, time, subprocess
from jobqueue import handler, on_worker_stop, JobTimeout

def note(what, name):
    fd = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{what} {name} {os.getpid()} 0 -\\n".encode())
    os.close(fd)

@handler("note")
def do_note(name: str): note("note", name)

@handler("swallow", time_limit="300ms")
def swallow(name: str):
    note("swallow", name)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            note("swallowed", name)

@handler("deaf")
def deaf(name: str, seconds: float):
    """Takes the signals of its worker for itself, and does not give them back."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    note("deaf", name)
    time.sleep(seconds)

@handler("leaves")
def leaves(name: str):
    child = subprocess.Popen(["sleep", "300"])
    open("child", "w").write(str(child.pid))

@on_worker_stop
def stop():
    if os.path.exists("freeze"):
        note("stop", "-")
        os.kill(os.getpid(), signal.SIGSTOP)
'''


def one_worker(**more: object) -> list[dict[str, object]]:
    return [{"name": "default", "processes": 1, "queues": ["default"], "hang_timeout": "500ms", **more}]


def test_a_worker_frozen_while_it_waits_is_replaced(jqd: NewJqd, server: Server) -> None:
    """It holds nothing, its process lives, Redis sees its connection: only its beat tells. A job it was woken for comes back."""
    one = jqd(pools=one_worker(), redis={"url": server.url, "socket_timeout": "500ms"})
    client, [pid] = server.client(), one.pids("worker")
    eventually(lambda: any(c["cmd"] == "blmove" for c in client.client_list()))
    os.kill(pid, signal.SIGSTOP)
    push(client, job("note", {"name": "a"}))
    eventually(lambda: one.names("note") == ["a"], 20)
    assert [gone["cause"] for gone in one.events("worker gone")] == ["hung"]
    eventually(lambda: nothing_waits(client))
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_worker_frozen_while_it_leaves_is_killed(jqd: NewJqd, server: Server) -> None:
    """A reload's old worker has no deadline of its own; frozen in a hook it would stay for ever."""
    one = jqd(pools=one_worker(), redis={"url": server.url, "socket_timeout": "500ms"}, handlers=STUBBORN)
    [pid] = one.pids("worker")
    (one.folder / "freeze").touch()
    one.send(signal.SIGHUP)
    eventually(lambda: one.runs("stop"))
    (one.folder / "freeze").unlink()
    eventually(lambda: not psutil.pid_exists(pid), 20)
    assert [gone["cause"] for gone in one.events("worker gone")] == ["hung"]


def test_an_idle_or_busy_worker_is_never_taken_for_hung(jqd: NewJqd, server: Server) -> None:
    """The limit is a few seconds here; a job runs longer, and a worker waits longer."""
    one = jqd(
        pools=[{**one_worker()[0], "processes": 2}],
        redis={"url": server.url, "socket_timeout": "500ms"},
    )  # fmt: skip
    before = sorted(one.pids("worker"))
    push(server.client(), job("sleep", {"name": "a", "seconds": 6.5}))
    eventually(lambda: one.runs("slept"), 20)
    assert sorted(one.pids("worker")) == before


def test_a_worker_frozen_in_a_job_is_killed_by_the_jobs_limit(jqd: NewJqd, server: Server) -> None:
    one, client = (
        jqd(queues={"default": {"time_limit": "300ms", "kill_after": "300ms", "max_attempts": 1}}),
        server.client(),
    )
    push(client, job("sleep", {"name": "a", "seconds": 60}))
    pid = int(eventually(lambda: one.runs("sleep"))[0][2])
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: client.zcard("jq:{default}:dead") == 1)
    assert [gone["cause"] for gone in one.events("worker gone")] == ["hard_limit"]
    assert b"HardLimit" in client.zrange("jq:{default}:dead", 0, -1)[0]


def test_stuck_in_c_code_or_swallowing_the_timeout_ends_at_the_hard_limit(jqd: NewJqd, server: Server) -> None:
    one = jqd(
        handlers=STUBBORN, queues={"default": {"time_limit": "300ms", "kill_after": "300ms", "max_attempts": 1}}
    )  # fmt: skip
    client = server.client()
    one.configure(handlers=["handlers.py", "jobqueue.demo"])
    push(client, job("swallow", {"name": "a"}), job("demo:hang"))
    eventually(lambda: client.zcard("jq:{default}:dead") == 2)
    assert len(one.runs("swallow")) == 1
    assert one.runs("swallowed"), "the soft limit was told"
    assert {gone["cause"] for gone in one.events("worker gone")} == {"hard_limit"}


def test_a_job_that_ignores_sigterm_does_not_keep_its_worker(jqd: NewJqd, server: Server) -> None:
    """The one TERM of a drain came while the job had it ignored; the scoreboard says it again when the job is done."""
    one, client = jqd(handlers=STUBBORN, pools=one_worker()), server.client()
    [pid] = one.pids("worker")
    push(client, job("deaf", {"name": "a", "seconds": 1.0}))
    eventually(lambda: one.runs("deaf"))
    one.send(signal.SIGHUP)
    eventually(lambda: [p for p in one.pids("worker") if p != pid], 20)
    eventually(lambda: not psutil.pid_exists(pid))
    push(client, job("note", {"name": "b"}))
    assert int(eventually(lambda: one.runs("note"))[0][2]) != pid
    assert [gone["cause"] for gone in one.events("worker gone")] == ["exited"]


def test_signals_a_job_took_are_the_workers_again_afterwards(jqd: NewJqd, server: Server) -> None:
    """Idle after such a job it hears a TERM at once, not when its wait ends."""
    one, client = jqd(handlers=STUBBORN, pools=one_worker()), server.client()
    push(client, job("deaf", {"name": "a", "seconds": 0}))
    eventually(lambda: one.runs("deaf") and any(title.endswith("idle") for title in one.titles("worker")))
    eventually(lambda: nothing_waits(client))
    assert one.stop(timeout=5) == 0
    assert leftovers(client) == {}


def test_children_of_a_job_end_with_their_worker_however_it_leaves(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(handlers=STUBBORN, pools=one_worker()), server.client()
    push(client, job("leaves", {"name": "a"}))
    child = int(eventually(lambda: (one.folder / "child").exists() and (one.folder / "child").read_text()))
    eventually(lambda: nothing_waits(client))
    assert one.stop() == 0
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_stuck_while_starting_is_given_up_at_the_start_timeout(jqd: NewJqd, server: Server) -> None:
    source = (
        STUBBORN
        + """
from jobqueue import on_worker_start
@on_worker_start
def slow():
    if os.path.exists("block"):
        note("stuck", "-")
        time.sleep(300)
"""
    )
    one = jqd(handlers=source, pools=one_worker(start_timeout="1s"))
    [pid] = one.pids("worker")
    (one.folder / "block").touch()
    os.kill(pid, signal.SIGKILL)
    stuck = int(eventually(lambda: one.runs("stuck"))[0][2])
    (one.folder / "block").unlink()
    eventually(lambda: not psutil.pid_exists(stuck))
    one.wait_ready()
    assert "boot" in [gone["cause"] for gone in one.events("worker gone")]


def test_a_frozen_steward_and_a_frozen_exporter_are_replaced(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(http={"listen": "127.0.0.1:0"}), server.client()
    eventually(lambda: {"steward", "exporter"} <= {line["role"] for line in one.events("role ready")})
    before = {role: one.pid_of(role) for role in ("steward", "exporter")}
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    push(client, job("sleep", {"name": "a", "seconds": 0.1, "killed": True}))
    worker = int(eventually(lambda: one.runs("sleep"))[0][2])
    os.kill(worker, signal.SIGKILL)
    for role, pid in before.items():
        eventually(lambda role=role, pid=pid: [p for p in one.pids(role) if p != pid], 20)  # type: ignore[misc]
    eventually(lambda: one.names("slept") == ["a"])
    idle_for(0.1)
    assert {line["cause"] for line in one.events("role killed")} == {"silent"}
