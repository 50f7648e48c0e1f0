"""The dashboard in a real browser, over a real jqd: what an operator sees, and what happens when he acts."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from jobqueue import codec
from jobqueue.job import Envelope, ErrorInfo
from tests.browser.conftest import TOKEN, Dashboard
from tests.support.chromium import BrowserFault
from tests.support.jqd import job, push, stats
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)
# The quickest of some: what drawing takes, not what else this machine does.
DRAWN = """
const draw = () => { const t = performance.now(); view.draw(store.now); view.grid.element.offsetHeight; return performance.now() - t; };
return Math.min(...Array.from({length: 9}, draw));
"""
NASTY = "<img src=x onerror='window.hacked=1'>"
BOLD = "a<b>bold</b>queue"


def bury(board: Dashboard, number: int = 1, queue: str = "default", **fields: Any) -> None:
    """Dead letters of type `note`, which `runs` tells of when they are retried."""
    now = int(time.time() * 1000)
    letters = {}
    for n in range(number):
        error = ErrorInfo(f"Error{n % 3}", f"it failed {n}", "Traceback (most recent call last):\n  somewhere", now)
        said = {"type": "note", "id": f"d{n}", "attempt": 3, "payload": {"name": f"letter{n}"}, "error": error} | fields
        letters[codec.encode(Envelope(**said))] = now - n * 1000
    board.redis.zadd(f"jq:{{{queue}}}:dead", letters)
    board.redis.sadd("jq:queues", queue)


def actions(board: Dashboard) -> list[dict[str, Any]]:
    return board.jqd.events("operator action")


def rows(board: Dashboard) -> int:
    return int(board.browser.js("return document.querySelectorAll('.grid .body .r').length"))


def test_numbers_change_while_one_looks(dashboard: Dashboard) -> None:
    page = dashboard.show()
    page.wait_for("default", ".queues")
    done = stats(dashboard.redis).get("processed", 0)
    dashboard.redis.set("jq:{default}:paused", "a <b>reason</b>")
    push(dashboard.redis, *[job("noop") for _ in range(1234)])
    page.wait_for("1,234", ".queues")
    page.wait_for("paused: a <b>reason</b>", ".queues")
    dashboard.redis.delete("jq:{default}:paused")
    eventually(lambda: "1,234" not in page.text(".queues") and "paused" not in page.text(".queues"), 15)
    assert stats(dashboard.redis)["processed"] == done + 1234


def test_what_a_worker_runs_and_for_how_long(dashboard: Dashboard) -> None:
    page = dashboard.show("workers")
    push(dashboard.redis, job("sleep", {"name": "long", "seconds": 3}, id="a-long-one"))
    page.wait_for("a-long-one", ".grid")
    shown = "return [...document.querySelectorAll('.grid .span')].some(e => /^[12]\\.[0-9] s/.test(e.innerText))"
    eventually(lambda: page.js(shown), what="its seconds")
    eventually(lambda: "a-long-one" not in page.text(".grid"), 15)


def test_a_silent_exporter_is_told_and_its_return_too(dashboard: Dashboard) -> None:
    page = dashboard.show()
    pid = dashboard.jqd.pid_of("exporter")
    os.kill(pid, signal.SIGSTOP)
    try:
        page.wait_for("nothing heard from the exporter", "#banner")
        assert page.text("#pulse") == "stale"
    finally:
        os.kill(pid, signal.SIGCONT)
    page.wait_for("live", "#pulse", 20)
    eventually(lambda: page.text("#banner") == "")


def test_redis_down_is_told_with_the_age_of_what_is_shown(dashboard: Dashboard) -> None:
    page = dashboard.show()
    page.wait_for("default", ".queues")
    dashboard.server.pause()
    try:
        page.wait_for("Numbers of queues are", "#banner")
        assert "default" in page.text(".queues")
    finally:
        dashboard.server.resume()
    page.wait_for("live", "#pulse", 20)


def test_without_the_token_no_payload_is_shown_and_a_wrong_one_is_told(dashboard: Dashboard) -> None:
    bury(dashboard)
    page = dashboard.show("dead")
    page.wait_for("Locked")
    assert "letter0" not in page.text()
    page.type("input[type=password]", "wrong")
    page.click("button", "Unlock")
    page.wait_for("not the one in http.token")
    page.type("input[type=password]", TOKEN)
    page.click("button", "Unlock")
    page.wait_for("letter0", ".grid")


def test_nothing_from_a_job_becomes_html(dashboard: Dashboard) -> None:
    bury(
        dashboard,
        type=f"{NASTY}",
        payload={"name": NASTY},
        error=ErrorInfo(NASTY, NASTY, NASTY),
        headers={NASTY: NASTY},
    )
    dashboard.redis.sadd("jq:queues", BOLD)
    page = dashboard.show("dead", token=True)
    page.wait_for(NASTY, ".grid")
    page.click(".grid .body .r")
    page.wait_for(NASTY, "dialog pre")
    page.press("Escape")
    page.click("nav a", "Queues")
    page.wait_for(BOLD, ".queues")
    dashboard.redis.srem("jq:queues", BOLD)
    assert page.js("return document.images.length + (window.hacked || 0)") == 0
    with pytest.raises(BrowserFault, match="TrustedHTML"):
        page.js("document.body.innerHTML = '<p>no</p>'")
    page.console()  # where the browser complains of it, too


def test_a_dead_letter_is_read_and_retried_by_keyboard_alone(dashboard: Dashboard) -> None:
    """The token is asked for once; the log says who did what."""
    bury(dashboard, 3)
    before = len(actions(dashboard))
    page = dashboard.show("dead")
    page.wait_for("Locked")
    page.type("input[placeholder='for the log']", "Grace")
    page.type("input[type=password]", TOKEN)
    page.press("Enter")
    page.wait_for("letter2", ".grid")
    page.press("ArrowDown", "ArrowDown", "Enter")
    text = page.wait_for("Traceback (most recent call last)", "dialog")
    assert "it failed 1" in text
    assert "letter1" in text
    page.press("Escape")
    eventually(lambda: not page.js("return document.querySelector('dialog[open]')"))
    page.press("x", "r")
    page.wait_for("Retry 1 dead letter?", "dialog")
    page.press("Enter")
    eventually(lambda: "letter1" in dashboard.jqd.names("note"))
    eventually(lambda: "letter1" not in page.text(".grid") and "letter0" in page.text(".grid"))
    (line,) = eventually(lambda: actions(dashboard)[before:])
    assert (line["action"], line["by"], line["ids"], line["jobs"]) == ("retry", "Grace", ["d1"], 1)
    assert TOKEN not in dashboard.jqd.text()


def test_a_payload_is_edited_and_the_job_retried(dashboard: Dashboard) -> None:
    bury(dashboard)
    page = dashboard.show("dead", token=True)
    page.click(".grid .body .r", "note")
    page.click("dialog button", "Edit payload")
    page.type("textarea", "{not json")
    eventually(lambda: page.js("return [...document.querySelectorAll('dialog footer button')].every(b => b.disabled)"))
    page.type("textarea", '{"name": "mended", "n": 12345678901234567890}')
    page.type("textarea", '{"name": "mended"}')
    page.click("dialog button", "Save and retry")
    eventually(lambda: "mended" in dashboard.jqd.names("note"))
    assert dashboard.redis.zcard("jq:{default}:dead") == 0


def test_pause_resume_cancel_promote_and_drop(dashboard: Dashboard) -> None:
    before = len(actions(dashboard))
    page = dashboard.show("queues", token=True)
    page.click(".queues button[aria-label='Pause default']")
    page.type("dialog input", "Redis moves")
    page.click("dialog button", "Pause")
    page.wait_for("paused: Redis moves", ".queues")
    assert dashboard.redis.get("jq:{default}:paused") == b"Redis moves"
    page.click(".queues button[aria-label='Resume default']")
    eventually(lambda: not dashboard.redis.exists("jq:{default}:paused"))
    soon = int(time.time() * 1000) + 3_600_000
    dashboard.redis.zadd(
        "jq:{default}:scheduled", {job("note", {"name": f"later{n}"}, id=f"s{n}"): soon + n for n in (1, 2)}
    )
    page.click("nav a", "Scheduled")
    page.click(".grid .body .r", "later1")
    page.click("dialog button", "Run now")
    eventually(lambda: "later1" in dashboard.jqd.names("note"))
    page.click(".grid .body .r", "later2")
    page.click("dialog button", "Cancel job")
    page.click("dialog.box button.danger", "Cancel job")
    eventually(lambda: not dashboard.redis.exists("jq:{default}:scheduled"))
    bury(dashboard)
    page.click("nav a", "Dead")
    page.click(".grid .body .r", "note")
    page.click("dialog button", "Drop")
    page.click("dialog.box button", "Drop")
    eventually(lambda: not dashboard.redis.exists("jq:{default}:dead"))
    said = [
        line["action"]
        for line in eventually(lambda: len(actions(dashboard)) >= before + 5 and actions(dashboard))[before:]
    ]
    assert said == ["pause", "resume", "promote", "cancel", "drop"]


def test_ten_thousand_dead_letters_stay_quick(dashboard: Dashboard) -> None:
    """Few rows exist, any of them can be reached, a filter is answered at once, and all that fit are retried."""
    bury(dashboard, 10_000)
    page = dashboard.show("dead", token=True)
    began = time.monotonic()
    page.wait_for("letter1", ".grid")
    assert time.monotonic() - began < 20
    assert rows(dashboard) < 80
    down = (
        "scrollTo(0, document.body.scrollHeight); return document.querySelector('.grid').getAttribute('aria-rowcount')"
    )
    eventually(lambda: page.js(down) == "10001", 60, every=0.02, what="the last page")
    page.js("scrollTo(0, document.body.scrollHeight)")
    page.wait_for("letter9999", ".grid")
    assert rows(dashboard) < 80
    took = page.js(DRAWN)
    assert took < 50
    page.js("scrollTo(0, 0)")
    page.type(".tools input", "kind=Error1 error~='failed 77'")
    page.wait_for("of 10,000 fit", ".tools")
    page.wait_for("letter7702", ".grid")
    fitting = [n for n in range(10_000) if n % 3 == 1 and f"failed {n}".startswith("failed 77")]
    page.click("button", "Retry all that fit")
    page.click("dialog button.main", "Retry")
    eventually(lambda: dashboard.redis.zcard("jq:{default}:dead") == 10_000 - len(fitting), 20)
    eventually(lambda: set(dashboard.jqd.names("note")) >= {f"letter{n}" for n in fitting}, 20)


def test_five_hundred_workers_stay_quick(dashboard: Dashboard) -> None:
    host = "0123abcd.a1b2c3"
    names = [f"{host}.pool-{n}.{n + 1}-{n + 100}-99" for n in range(500)]
    soon = int(time.time() * 1000) + 600_000
    dashboard.redis.zadd("jq:{default}:leases", dict.fromkeys(names, soon))
    workers = [
        {"worker": name, "type": "report", "job_id": f"job-{n}", "running_seconds": n / 10}
        for n, name in enumerate(names)
    ]
    report = {
        "host": host[:8],
        "nonce": host[9:],
        "hostname": "far-away",
        "master_pid": 7,
        "at_ms": soon,
        "workers": workers,
    }
    dashboard.redis.set(f"jq:host:{host}", json.dumps(report))
    try:
        page = dashboard.show("workers")
        page.wait_for("502 workers", ".tools")
        assert rows(dashboard) < 80
        took = page.js(DRAWN)
        assert took < 50
        page.type(".tools input", "far-away job-499")
        page.wait_for("1 of 502 workers", ".tools")
        page.click("nav a", "System")
        page.wait_for("far-away", "main")
    finally:
        dashboard.redis.zrem("jq:{default}:leases", *names)
        dashboard.redis.delete(f"jq:host:{host}")


@pytest.mark.parametrize("view", ["queues", "workers", "pending", "scheduled", "dead", "system"])
def test_it_fits_a_phone(dashboard: Dashboard, view: str) -> None:
    bury(dashboard, 3)
    dashboard.browser.looks(phone=True)
    page = dashboard.show(view, token=True)
    eventually(lambda: page.js("return document.querySelector('main').innerText.length > 20"))
    assert page.js("return document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def test_every_control_has_a_name_and_every_view_a_key(dashboard: Dashboard) -> None:
    bury(dashboard)
    page = dashboard.show(token=True)
    for key, title in zip(
        "123456", ["Queues", "Workers", "Waiting", "Scheduled", "Dead letters", "System"], strict=True
    ):
        page.press(key)
        eventually(lambda title=title: page.js("return document.title") == f"{title} · jqd")
        nameless = page.js(
            "return [...document.querySelectorAll('button, input, select, a')].filter(e => e.checkVisibility() && !(e.innerText.trim() || "
            "e.ariaLabel || e.title || e.placeholder || e.closest('label')?.innerText)).map(e => e.outerHTML)"
        )
        assert nameless == []
    page.press("?")
    page.wait_for("Shift-click", "dialog")
