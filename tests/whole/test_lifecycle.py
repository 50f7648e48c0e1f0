"""Limits, recycling, reload and the ways to stop: what becomes of processes, and that no job pays for it."""

from __future__ import annotations

import os
import signal
import time

import msgspec
import pytest

from tests.support.jqd import HANDLERS, Jqd, job, leftovers, nothing_waits, push, stats
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd


def generations(one: Jqd) -> set[int]:
    return {event["generation"] for event in one.events("worker ready")}


def ended(one: Jqd) -> list[str]:
    """How reloads ended so far."""
    return [
        e["event"] for e in one.events("reload") if e["event"] in ("reloaded", "reload failed", "reload rolled back")
    ]


def test_the_soft_limit_raises_in_the_handler_and_uses_up_an_attempt(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, job("sleep", {"name": "a", "seconds": 30}, time_limit=0.3, max_attempts=1))
    [element] = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1))
    letter = msgspec.json.decode(element)
    assert letter["error"]["kind"] == "JobTimeout"
    assert letter["attempt"] == 1
    assert one.events("worker gone") == [], "the process lives on"


def test_the_hard_limit_kills_what_does_not_return_and_uses_up_an_attempt(jqd: NewJqd, server: Server) -> None:
    one, client = (
        jqd(queues={"default": {"time_limit": "200ms", "kill_after": "300ms", "max_attempts": 1}}),
        server.client(),
    )
    start = time.monotonic()
    push(client, job("demo:hang"))
    [element] = eventually(lambda: client.zrange("jq:{default}:dead", 0, -1))
    assert time.monotonic() - start < 10
    letter = msgspec.json.decode(element)
    assert letter["error"]["kind"] == "HardLimit"
    assert letter.get("crashes", 0) == 0
    [gone] = one.events("worker gone")
    assert gone["cause"] == "hard_limit"
    push(client, job("note", {"name": "next"}))
    eventually(lambda: one.runs("note"))


def test_workers_are_replaced_after_max_jobs_and_no_job_notices(jqd: NewJqd, server: Server) -> None:
    one = jqd(pools=[{"name": "default", "processes": 1, "queues": ["default"], "max_jobs": 100}])
    client = server.client()
    push(client, *(job("note", {"name": str(i)}) for i in range(1000)))
    eventually(lambda: len(one.runs("note")) == 1000)
    assert one.names("note") == [str(i) for i in range(1000)], "in order, each once"
    assert len({run[2] for run in one.runs("note")}) >= 5
    eventually(lambda: nothing_waits(client))
    assert stats(client) == {"processed": 1000}


def test_a_worker_that_grew_is_replaced_after_its_job(jqd: NewJqd, server: Server) -> None:
    one = jqd(pools=[{"name": "default", "processes": 1, "queues": ["default"], "max_memory": "60MB"}])
    client = server.client()
    [before] = one.pids("worker")
    push(client, job("demo:leak", {"mb": 100}), job("sleep", {"name": "a", "seconds": 0.6}))
    eventually(lambda: [pid for pid in one.pids("worker") if pid != before])
    eventually(lambda: stats(client).get("processed") == 2)
    assert stats(client) == {"processed": 2}


def test_twenty_reloads_under_load_good_and_broken_in_turn_cost_no_job_anything(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    sent = 0
    good = 0
    for round_ in range(20):
        jobs = [job("sleep", {"name": f"{round_}-{i}", "seconds": 0.02}) for i in range(15)]
        push(client, *jobs)
        sent += len(jobs)
        known = len(ended(one))
        match round_ % 4:
            case 0 | 2:
                (one.folder / "handlers.py").write_text(HANDLERS + f"\n# release {round_}\n")
                one.configure()
                good += 1
            case 1:
                one.write("pools: [{name: default, procesess: 2, queues: [default]}]\n")
            case 3:
                one.configure()
                (one.folder / "handlers.py").write_text("import no_such_module\n")
        one.send(signal.SIGHUP)
        [end] = eventually(lambda: ended(one)[known:], 20, what=f"the end of reload {round_}")  # noqa: B023
        assert end == ("reloaded" if round_ % 2 == 0 else "reload failed")
    eventually(lambda: len(one.runs("slept")) >= sent, 20)
    assert sorted(one.names("sleep")) == sorted(one.names("slept")), "none was aborted"
    assert len(one.names("sleep")) == sent, "none ran twice"
    assert {run[4] for run in one.runs("sleep")} == {"1/0"}, "no attempt was counted"
    eventually(lambda: stats(client).get("processed") == sent)
    assert len(generations(one)) == 1 + good
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_new_generation_that_cannot_start_is_rolled_back(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    before = set(one.pids("worker"))
    broken = (
        HANDLERS
        + "\nfrom jobqueue import on_worker_start\n@on_worker_start\ndef boom(): raise RuntimeError('no database')\n"
    )
    (one.folder / "handlers.py").write_text(broken)
    one.send(signal.SIGHUP)
    eventually(lambda: "reload rolled back" in ended(one), 20)
    push(client, job("note", {"name": "a"}))
    eventually(lambda: one.runs("note"))
    assert before == set(one.pids("worker"))
    assert "no database" in one.text()
    (one.folder / "handlers.py").write_text(HANDLERS)
    one.send(signal.SIGHUP)
    eventually(lambda: "reloaded" in ended(one), 20)
    eventually(lambda: not before & set(one.pids("worker")))


def test_a_drain_finishes_what_runs_and_leaves_the_rest_in_order(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(), server.client()
    push(client, *(job("sleep", {"name": str(i), "seconds": 0.5}) for i in range(10)))
    eventually(lambda: len(one.runs("sleep")) == 2)
    assert one.stop() == 0
    started, finished = one.names("sleep"), one.names("slept")
    assert sorted(started) == sorted(finished)
    assert len(finished) < 10
    assert leftovers(client) == {}
    assert client.llen("jq:{default}:pending") == 10 - len(finished)


@pytest.mark.parametrize("how", ["timeout", "second TERM", "QUIT"])
def test_an_abort_puts_the_job_back_at_the_front_with_no_attempt_used_up(jqd: NewJqd, server: Server, how: str) -> None:
    timeout = "300ms" if how == "timeout" else "60s"
    one, client = jqd(shutdown={"drain_timeout": timeout, "abort_grace": "2s"}), server.client()
    push(
        client,
        job("sleep", {"name": "a", "seconds": 60}),
        job("sleep", {"name": "b", "seconds": 60}),
        job("note", {"name": "c"}),
    )
    eventually(lambda: len(one.runs("sleep")) == 2)
    if how == "second TERM":
        one.send(signal.SIGTERM)
        eventually(lambda: one.events("drain"))
    assert one.stop(signal.SIGQUIT if how == "QUIT" else signal.SIGTERM) == 0
    waiting = [msgspec.json.decode(e) for e in client.lrange("jq:{default}:pending", 0, -1)]
    assert [w["type"] for w in waiting] == ["note", "sleep", "sleep"], "the aborted ones are at the front (the tail)"
    assert all("attempt" not in w and "crashes" not in w for w in waiting)
    assert leftovers(client) == {}


def test_a_handler_that_ignores_the_abort_is_killed_and_put_back_unblamed(jqd: NewJqd, server: Server) -> None:
    one, client = jqd(shutdown={"drain_timeout": "200ms", "abort_grace": "300ms"}), server.client()
    push(client, job("demo:hang"))
    eventually(lambda: any("demo:hang" in t for t in one.titles("worker")))
    assert one.stop() == 0
    [element] = client.lrange("jq:{default}:pending", 0, -1)
    assert "crashes" not in msgspec.json.decode(element)
    assert leftovers(client) == {}


def test_ttin_and_ttou_add_and_remove_a_worker(jqd: NewJqd, server: Server) -> None:
    one = jqd()
    one.send(signal.SIGTTIN)
    eventually(lambda: len(one.pids("worker")) == 3)
    one.send(signal.SIGTTOU)
    eventually(lambda: len(one.pids("worker")) == 2)  # two signals at once may arrive as one
    one.send(signal.SIGTTOU)
    eventually(lambda: len(one.pids("worker")) == 1)


def test_usr2_dumps_state_and_every_workers_stack(jqd: NewJqd, server: Server) -> None:
    """One after the other: all write to one log. The job's worker is the first; on a busy machine the end of its stack may still meet the next."""
    one, client = jqd(), server.client()
    push(client, *(job("sleep", {"name": name, "seconds": 5.0}) for name in "ab"))
    eventually(lambda: len(one.runs("sleep")) == 2)

    def whole() -> bool:
        one.send(signal.SIGUSR2)
        time.sleep(0.2)
        return one.text().count("in sleep\n") >= 2

    eventually(whole)


def test_redis_down_at_start_is_waited_for_and_down_at_the_end_is_said_by_the_exit_code(
    jqd: NewJqd, server: Server
) -> None:
    server.stop()
    one = jqd(start=False)
    one.start(wait=False)
    eventually(lambda: one.events("Redis is not available"))
    server.start()
    client = server.client()
    push(client, job("sleep", {"name": "a", "seconds": 1.0}))
    eventually(lambda: one.runs("sleep"))
    server.kill()
    one.configure()
    one.send(signal.SIGTERM)
    one.send(signal.SIGTERM)
    assert one.process is not None
    assert one.process.wait(40) == 75


def test_an_unmanageable_server_is_refused_at_the_start(jqd: NewJqd, new_server: object) -> None:
    server = new_server(options=("--maxmemory-policy", "allkeys-lru"))  # type: ignore[operator]
    one = jqd(url=server.url, start=False)
    one.start(wait=False)
    assert one.process is not None
    assert one.process.wait(20) == 78
    assert "noeviction" in one.text()


def test_a_wrong_password_is_said_and_ends_with_78(jqd: NewJqd, server: Server) -> None:
    server.client().execute_command("CONFIG", "SET", "requirepass", "right-one")
    one = jqd(url=server.url.replace("unix://", "unix://:wrong-one@"), start=False)
    one.start(wait=False)
    assert one.process is not None
    assert one.process.wait(20) == 78
    assert "password" in one.text()
    assert "wrong-one" not in one.text()


def test_handlers_that_cannot_be_imported_end_with_78_and_the_traceback(jqd: NewJqd, server: Server) -> None:
    one = jqd(handlers="raise RuntimeError('broken on purpose')\n", start=False)
    one.start(wait=False)
    assert one.process is not None
    assert one.process.wait(20) == 78
    assert "broken on purpose" in one.text()


def test_a_worker_that_never_gets_ready_ends_with_78(jqd: NewJqd, server: Server) -> None:
    broken = "from jobqueue import on_worker_start\n@on_worker_start\ndef boom(): raise RuntimeError('no database')\n"
    one = jqd(handlers=broken, start=False)
    one.start(wait=False)
    assert one.process is not None
    assert one.process.wait(30) == 78
    assert "no database" in one.text()


def test_a_pool_without_preload_works(jqd: NewJqd, server: Server) -> None:
    one = jqd(pools=[{"name": "default", "processes": 2, "queues": ["default"], "preload": False}])
    client = server.client()
    push(client, job("sleep", {"name": "a", "seconds": 0.1, "killed": True}))
    pid = int(eventually(lambda: one.runs("sleep"))[0][2])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: one.runs("slept"))
    assert one.stop() == 0
    assert leftovers(client) == {}


def test_a_hangup_while_it_starts_does_not_end_it(jqd: NewJqd, server: Server) -> None:
    """From the moment it takes TERM it takes HUP too: a reload asked for too early is a start."""
    one = jqd(start=False)
    one.start(wait=False)

    def caught() -> int:
        with open(f"/proc/{one.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))

    eventually(lambda: caught() >> (signal.SIGTERM - 1) & 1, 10, every=0.0005)
    for _ in range(20):
        one.send(signal.SIGHUP)
    one.wait_ready()
    assert one.stop() == 0
