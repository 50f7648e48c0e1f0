"""Cron entries in a whole jqd: on time, once however many hosts, through deaths, reloads and down times."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import NewServer
from tests.support.jqd import HANDLERS, Jqd, nothing_waits
from tests.support.servers import Server, embedded_binary
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

TICKER: Final = f"""{HANDLERS}
@handler("ticked")
def ticked(name: str, job: Job): note("ticked", name, job.headers["tick"])
"""
FAKETIME: Final = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def entry(schedule: str, name: str, **more: Any) -> dict[str, Any]:
    return {"schedule": schedule, "type": "ticked", "payload": {"name": name}, **more}


def ticks(*hosts: Jqd, name: str = "a") -> list[str]:
    """Of one entry, in the order in which they ran."""
    return [run[4] for one in hosts for run in one.runs("ticked") if run[1] == name]


def in_seconds(server: Server, seconds: int) -> str:
    """A schedule whose next tick is so many whole seconds ahead of the server's clock, and the one after that in a year."""
    at = datetime.fromtimestamp(server.client().time()[0] + seconds, UTC)
    return f"{at:%S %M %H %d %m} *"


def test_two_hosts_tick_each_second_once_while_their_stewards_are_killed(jqd: NewJqd, server: Server) -> None:
    cron = {"a": entry("* * * * * *", "a"), "b": entry("*/2 * * * * *", "b", unique="b", timezone="Europe/Berlin")}
    one, two = (jqd(handlers=TICKER, cron=cron) for _ in range(2))
    for n in (3, 6, 9):
        eventually(lambda n=n: len(ticks(one, two)) >= n, 30, what=f"{n} ticks")  # type: ignore[misc]
        victim = (one, two)[n % 2]
        os.kill(victim.pid_of("steward"), signal.SIGKILL)
    eventually(lambda: len(ticks(one, two)) >= 12, 30)
    assert [one.stop(), two.stop()] == [0, 0]
    for name in ("a", "b"):
        twice = {tick: n for tick, n in Counter(ticks(one, two, name=name)).items() if n > 1}
        assert not twice
    assert all(datetime.fromisoformat(tick).second % 2 == 0 for tick in ticks(one, two, name="b"))


def test_a_tick_runs_when_its_time_comes_and_not_before(jqd: NewJqd, server: Server) -> None:
    """The server's clock and the machine's are the same here. The bound is for a loaded machine; a quiet one needs 10 ms."""
    one = jqd(handlers=TICKER, cron={"a": entry(in_seconds(server, 4), "a")})
    (tick,) = eventually(lambda: ticks(one), 20)
    at = float(one.runs("ticked")[0][3]) + time.time() - time.monotonic()
    assert -0.005 < at - datetime.fromisoformat(tick).timestamp() < 2


def test_what_was_missed_while_jqd_was_down_is_made_up_for_once_at_the_start(jqd: NewJqd, server: Server) -> None:
    client = server.client()
    now = client.time()[0] * 1000
    for name in ("a", "never"):
        client.set(f"jq:{{default}}:cron:{name}", f"{now - 5 * 86_400_000} 0 3 * * * UTC")
    cron = {"a": entry("0 3 * * *", "a"), "never": entry("0 3 * * *", "n", catch_up="none"), "new": entry("0 3 * * *", "new")}  # fmt: skip
    one = jqd(handlers=TICKER, cron=cron)
    (tick,) = eventually(lambda: ticks(one), 10)
    last = datetime.fromisoformat(tick)
    assert (last.hour, last.minute) == (3, 0)
    assert 0 <= now / 1000 - last.timestamp() < 86_400
    one.stop()
    one.start()
    eventually(lambda: nothing_waits(client))
    assert (ticks(one), ticks(one, name="n"), ticks(one, name="new")) == ([tick], [], [])


def test_a_reload_adds_changes_and_removes_entries(jqd: NewJqd, server: Server) -> None:
    one = jqd(handlers=TICKER, cron={"a": entry("* * * * * *", "a"), "b": entry("* * * * * *", "b")})
    eventually(lambda: ticks(one) and ticks(one, name="b"), 20)
    one.configure(cron={"a": entry("* * * * * *", "changed"), "c": entry("* * * * * *", "c", queue="default")})
    one.send(signal.SIGHUP)
    eventually(lambda: len(one.pids("steward")) == 1 and one.events("reloaded"), 30)
    before = len(ticks(one)), len(ticks(one, name="b"))
    eventually(lambda: len(ticks(one, name="c")) >= 2 and len(ticks(one, name="changed")) >= 2, 20)
    assert (len(ticks(one)), len(ticks(one, name="b"))) == before
    assert max(Counter(ticks(one) + ticks(one, name="changed")).values()) == 1, "of one entry, old and new, each once"


def test_a_faulty_entry_changes_nothing_at_a_reload(jqd: NewJqd) -> None:
    one = jqd(handlers=TICKER, cron={"a": entry("* * * * * *", "a")})
    one.configure(cron={"a": entry("* * * * * *", "a", timezone="Europe/Berln"), "b": {"schedule": "61 * * * *"}})
    one.send(signal.SIGHUP)
    (refused,) = eventually(lambda: one.events("reload failed"), 10)
    for place in ("cron.a.timezone", "did you mean 'Europe/Berlin'?", "cron.b.schedule", "cron.b: type is missing"):
        assert place in refused["error"]
    before = len(ticks(one))
    eventually(lambda: len(ticks(one)) > before, 10)


@pytest.mark.skipif(not FAKETIME or embedded_binary() is None, reason="needs libfaketime and the embedded server")
def test_the_clock_that_counts_is_the_servers(jqd: NewJqd, new_server: NewServer, tmp_path: Path) -> None:
    """It stands at five to three on the night in which Berlin has no half past two; then it is set forward in steps."""
    clock = tmp_path / "clock"

    def set_clock(text: str) -> None:
        fresh = tmp_path / "clock.new"
        at = datetime.fromisoformat(text).timestamp()
        fresh.write_text(f"{at - time.time():+.3f}\n")
        fresh.rename(clock)

    set_clock("2026-03-29T00:55:00+00:00")
    script = tmp_path / "server"
    script.write_text(
        f"#!/bin/sh\nexport LD_PRELOAD={FAKETIME[0]} FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_CACHE_DURATION=1 "
        f'FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {embedded_binary()} "$@"\n'
    )
    script.chmod(0o700)
    server = new_server(binary=str(script))
    cron = {"a": entry("30 2 * * *", "a", timezone="Europe/Berlin"), "h": entry("0 * * * *", "h")}
    one = jqd(url=server.url, handlers=TICKER, cron=cron)
    assert ticks(one) == []
    set_clock("2026-03-29T00:59:58.500+00:00")
    assert eventually(lambda: ticks(one, name="h") and ticks(one), 20) == ["2026-03-29T03:00:00+02:00"]
    set_clock("2026-03-30T05:10:00+00:00")  # a day and four hours that nobody lived through
    assert eventually(lambda: ticks(one)[1:], 20) == ["2026-03-30T02:30:00+02:00"]
    assert eventually(lambda: ticks(one, name="h")[1:], 20) == ["2026-03-30T05:00:00+00:00"], "the last hour for all"


def test_check_knows_the_types_of_entries(tmp_path: Path) -> None:
    """`jqd --check` imports the handlers, so it can tell a type that nobody handles."""
    one = Jqd(tmp_path, f"embedded:{tmp_path}/r", start=False, cron={"a": {"schedule": "@daily", "type": "nope"}, "b": {"schedule": "@daily", "type": "note"}})  # fmt: skip
    one.start("--check", wait=False)
    assert one.process is not None
    assert one.process.wait(30) == 78
    assert "cron.a.type: none of the handlers is registered as 'nope'; did you mean 'note'?" in one.text()
    assert "cron.b" not in one.text()


def test_an_entry_whose_key_is_spoilt_waits_alone(jqd: NewJqd, server: Server) -> None:
    """It must not keep the steward from its duties towards living workers, nor other entries from their ticks."""
    client = server.client()
    client.rpush("jq:{default}:cron:spoilt", "x")
    cron = {"spoilt": entry("* * * * * *", "spoilt"), "good": entry("* * * * * *", "good")}
    one = jqd(handlers=TICKER, cron=cron)
    steward = one.pid_of("steward")
    eventually(lambda: len(ticks(one, name="good")) >= 3, 30)
    assert not ticks(one, name="spoilt")
    assert len(one.events("cron entry cannot tick")) == 1
    assert "Redis is not available" not in one.text()
    client.delete("jq:{default}:cron:spoilt")
    eventually(lambda: ticks(one, name="spoilt"), 30)
    assert one.pid_of("steward") == steward
    assert one.stop() == 0
