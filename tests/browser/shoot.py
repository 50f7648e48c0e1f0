"""Takes the screenshots in docs/img of a real jqd at work: `python -m tests.browser.shoot [minutes]`. Not a test.

The stub folder beside it makes the exporter sample twice a second, so that a minute of work fills the plots.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.chromium import Browser
from tests.support.jqd import ROOT, Jqd
from tests.support.servers import Server, debian_binary, embedded_binary
from tests.support.waiting import eventually

IMAGES = ROOT / "docs/img"
TOKEN = "sesame"
HANDLERS = """
import random, time
from jobqueue import handler, SkipRetry

def work(mean): time.sleep(random.expovariate(1 / mean))

@handler("email:welcome", max_attempts=4, backoff={"base": "8s", "factor": 2})
def welcome(user_id: int, locale: str = "en"):
    work(0.02)
    if random.random() < 0.03: raise ConnectionError("smtp.example.net:587 refused the connection")

@handler("invoice:render")
def render(invoice: str, pages: int = 1):
    work(0.15)
    if random.random() < 0.02: raise SkipRetry(f"template of {invoice} has no field 'vat_id'")

@handler("image:resize", time_limit="40s")
def resize(path: str, width: int): work(0.9)

@handler("report:monthly", time_limit="2m")
def report(customer: str, month: str): time.sleep(random.uniform(20, 55))

@handler("webhook:deliver", max_attempts=2, backoff={"base": "1s"})
def deliver(url: str, event: dict):
    work(0.05)
    if "legacy" in url: raise TimeoutError(f"{url} did not answer within 10 s")

@handler("search:index")
def index(ids: list): work(0.03)
"""


class Traffic(threading.Thread):
    """Producers with moods."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.over = url, threading.Event()

    def run(self) -> None:
        from jobqueue import JobQueue

        queue, rng, began = JobQueue(self.url), random.Random(7), time.monotonic()
        while not self.over.wait(0.1):
            t = time.monotonic() - began
            wave = 1 + (3 if 12 < t % 45 < 22 else 0)
            items: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
            items += [
                ("email:welcome", {"user_id": rng.randrange(10**6), "locale": "de"}, {})
                for _ in range(rng.randrange(6) * wave)
            ]
            items += [
                ("search:index", {"ids": [rng.randrange(999) for _ in range(5)]}, {}) for _ in range(rng.randrange(4))
            ]
            if rng.random() < 0.5:
                items.append(("invoice:render", {"invoice": f"2026-{rng.randrange(9999):04d}", "pages": 2}, {}))
            if rng.random() < 0.2:
                items.append(
                    (
                        "webhook:deliver",
                        {
                            "url": f"https://{rng.choice(['shop', 'legacy', 'crm'])}.example.com/hook",
                            "event": {"kind": "order.paid", "order": rng.randrange(10**5)},
                        },
                        {},
                    )
                )
            if rng.random() < 0.16 * wave:
                items.append(("image:resize", {"path": f"uploads/{rng.randrange(10**6):06x}.jpg", "width": 1200}, {}))
            if rng.random() < 0.006 or t < 0.5:
                items.append(
                    (
                        "report:monthly",
                        {"customer": rng.choice(["Nordlicht GmbH", "Ateliers Dupont"]), "month": "2026-10"},
                        {},
                    )
                )
            if rng.random() < 0.05:
                items.append(("email:welcome", {"user_id": 1, "locale": "fr"}, {"delay": rng.randrange(60, 7200)}))
            queues = {
                "email:welcome": "mail",
                "invoice:render": "billing",
                "image:resize": "media",
                "report:monthly": "reports",
                "webhook:deliver": "webhooks",
                "search:index": "default",
            }
            for type_, payload, options in items:
                queue.enqueue(type_, payload, queue=queues[type_], **options)


def main() -> None:
    seconds = float(sys.argv[1]) * 60 if len(sys.argv) > 1 else 90.0
    binary = embedded_binary() or debian_binary()
    assert binary is not None, "no Redis here"
    with tempfile.TemporaryDirectory(prefix="jqd-shoot-") as name:
        folder = Path(name)
        (folder / "redis").mkdir()
        (folder / "jqd").mkdir()
        server = Server(binary, folder / "redis", "--appendonly", "yes", "--maxmemory", "256mb")
        pools = [
            {"name": "default", "processes": 6, "queues": {"mail": 5, "default": 3, "webhooks": 2, "billing": 2}},
            {"name": "heavy", "processes": 4, "queues": ["media", "reports"]},
        ]
        http = {"listen": "127.0.0.1:0" if len(sys.argv) < 3 else sys.argv[2], "token": TOKEN}
        jqd = Jqd(folder / "jqd", server.url, handlers=HANDLERS, pools=pools, http=http, start=False)
        jqd.configure(handlers=["handlers.py"], pools=pools, http=http)
        jqd.extra_path = (str(Path(__file__).with_name("stubs")),)
        jqd.start()
        traffic = Traffic(server.url)
        try:
            address = eventually(lambda: jqd.titles("exporter 127"), 20, what="the exporter")[0].split()[-1]
            print(f"http://{address}/  token {TOKEN}", flush=True)
            traffic.start()
            jqd.send(1)
            time.sleep(seconds)
            screen(server.url)
            shoot(f"http://{address}/", server, str(jqd.folder))
        finally:
            traffic.over.set()
            jqd.close()
            server.close()


def screen(url: str) -> None:
    """`jqctl top` as an SVG, without the fonts that rich would fetch."""
    from rich.console import Console

    from supervisor.ctl import top
    from supervisor.ctl.screen import draw
    from supervisor.ctl.target import Target

    os.environ["REDIS_URL"] = url
    target, console = Target(), Console(record=True, width=118, height=32, file=io.StringIO(), force_terminal=True)
    looks = top._looks(target)
    for _ in range(40):
        found = next(looks)
        time.sleep(0.5)
    target.inspector.server.where = "redis://jobs.example.com:6379"
    console.print(draw(top._frame(target, *found), 118, 32))
    text = console.export_svg(title="jqctl top")
    (IMAGES / "jqctl-top.svg").write_text(re.sub(r"@font-face {.*?}", "", text, flags=re.DOTALL))


def relocate(server: Server, folder: str) -> None:
    """Letters as an application in /srv/app would have them: a picture shows no path of the machine it was taken on."""
    client = server.client()
    for key in client.keys("jq:{*}:dead"):
        for member, died in client.zrange(key, 0, -1, withscores=True):
            moved = member.replace(folder.encode(), b"/srv/app")
            if moved != member:
                client.zadd(key, {moved: died})
                client.zrem(key, member)


def shoot(url: str, server: Server, folder: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with server.client() as client:
        client.set("jq:{webhooks}:paused", "legacy.example.com is down until 18:00")
    browser = Browser(1320, 800)
    try:
        browser.looks()
        browser.open(url)
        browser.js(f"sessionStorage.setItem('jqd.token', {json.dumps(TOKEN)}); sessionStorage.setItem('jqd.by', 'Ada')")
        for dark, phone in ((False, False), (True, False), (False, True), (True, True)):
            browser.looks(dark=dark, phone=phone)
            suffix = ("-phone" if phone else "") + ("-dark" if dark else "")
            for view in ("queues", "workers", "dead", "scheduled", "system"):
                browser.open(f"{url}#/{view}")
                browser.js("location.reload()")
                browser.wait_for("live", "#pulse")
                time.sleep(2.2)
                browser.screenshot(IMAGES / f"dashboard-{view}{suffix}.png")
            relocate(server, folder)
            browser.open(f"{url}#/dead")
            browser.js("location.reload()")
            time.sleep(1.5)
            browser.click(".grid .body .r")
            browser.wait_for("Traceback" if phone else "Payload", "dialog")
            assert folder not in browser.js("return document.body.innerText"), "the letter was not relocated"
            browser.screenshot(IMAGES / f"dashboard-letter{suffix}.png")
        print("\n".join(browser.console()))
    finally:
        browser.close()


if __name__ == "__main__":
    main()
