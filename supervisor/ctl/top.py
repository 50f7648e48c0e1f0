"""`jqctl top`: the queues and workers of all hosts, live, until q. Reads only.

Not what a frame looks like (`supervisor.ctl.screen`). Where nobody watches (a pipe, --json) it prints frames as lines instead.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from jobqueue.errors import JobQueueError
from supervisor.ctl.output import as_json
from supervisor.ctl.rates import Pace, look
from supervisor.ctl.target import Target, pass_target, targeted
from supervisor.ctl.waiting import Span

if TYPE_CHECKING:
    from supervisor.ctl.screen import Frame


@click.command()
@targeted
@click.option("--interval", type=Span(), default="1s", show_default=True, metavar="1s", help="Between two looks.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after so many looks.")
@click.option("--json", "json_", is_flag=True, help="One JSON object a look, on a line of its own, with rates.")
@pass_target
def top(target: Target, interval: float, count: int | None, json_: bool) -> None:
    """Queues and workers of all hosts, live. Keys: q quit, s sort, arrows scroll."""
    interval = max(0.1, interval)
    if json_:
        _lines(target, interval, count)
    elif sys.stdout.isatty() and sys.stdin.isatty():
        _live(target, interval, count)
    else:
        _plain(target, interval, count or 1)


def _looks(target: Target) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Pace]]]:
    """Stats, health, and rates since the look before."""
    from jobqueue.redis.health import health

    paces: dict[str, Pace] = {}
    while True:
        found = target.inspector.snapshot()
        stats, names = found.plain(), {host.id: host.hostname for host in found.hosts}
        for worker in stats["workers"]:
            worker["host"] = names.get(".".join(worker["worker"].split(".")[:2])) or worker["host"]
        look(paces, time.monotonic(), stats["queues"])
        yield stats, health(target.inspector.server), paces


def _lines(target: Target, interval: float, count: int | None) -> None:
    for n, (stats, health, paces) in enumerate(_looks(target), 1):
        for name, queue in stats["queues"].items():
            queue |= {"done_per_second": paces[name].done, "failed_per_second": paces[name].failed}
        as_json({"at": round(time.time(), 3), **stats, "redis": health})
        if n == count:
            return
        sys.stdout.flush()
        time.sleep(interval)


def _plain(target: Target, interval: float, count: int) -> None:
    """Frames as text, one after the other. The first look has no rates yet, so it is not shown."""
    from rich.console import Console

    from supervisor.ctl.screen import draw

    looks = _looks(target)
    next(looks)
    console = Console(file=sys.stdout, highlight=False, width=int(os.environ.get("COLUMNS") or 120))
    for _ in range(count):
        time.sleep(interval)
        console.print(draw(_frame(target, *next(looks)), console.width, 1_000))


def _live(target: Target, interval: float, count: int | None) -> None:
    from rich.console import Console
    from rich.live import Live

    from supervisor.ctl.screen import Frame, draw

    console, looks = Console(highlight=False), _looks(target)
    shown = Frame("", "", {"workers": [], "queues": {}, "pending": 0, "scheduled": 0, "dead": 0}, {}, {})
    drawn = 0
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown = _frame(target, *next(looks), like=shown)
            except JobQueueError as error:  # shown, and tried again: whoever watches an outage wants to see its end
                shown, looks = replace(shown, error=str(error), clock=_clock()), _looks(target)
            drawn += 1
            again = time.monotonic() + interval
            while True:
                live.update(draw(shown, console.width, console.height), refresh=True)
                if drawn == count:
                    return
                key = pressed(max(0.0, again - time.monotonic()))
                if key in ("q", "\x1b", "\x04"):
                    return
                if key in ("", " "):
                    break
                shown = _after(key, shown, console.height)


def _frame(
    target: Target, stats: dict[str, Any], health: dict[str, Any], paces: dict[str, Pace], like: Frame | None = None
) -> Frame:
    from supervisor.ctl.screen import Frame

    fresh = Frame(target.inspector.server.where, _clock(), stats, health, paces)
    return fresh if like is None else replace(fresh, order=like.order, first=like.first)


def _after(key: str, shown: Frame, height: int) -> Frame:
    """What a key changes."""
    last = max(0, len(shown.stats["workers"]) - 1)
    steps = {"\x1b[B": 1, "j": 1, "\x1b[A": -1, "k": -1, "\x1b[6~": height // 2, "\x1b[5~": -(height // 2)}
    if key in steps:
        return replace(shown, first=min(last, max(0, shown.first + steps[key])))
    if key == "s":
        return replace(shown, order="name" if shown.order == "longest" else "longest", first=0)
    return shown


def _clock() -> str:
    return time.strftime("%H:%M:%S")


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key and gives it, "" if there was none. The terminal is put right afterwards."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([fd], [], [], seconds)
        # An escape sequence arrives in one piece; end-of-file means the terminal is gone.
        return (os.read(fd, 16).decode("utf-8", "replace") or "q") if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
