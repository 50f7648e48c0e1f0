"""`jqctl wait`: until queues are empty."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from jobqueue import units
from supervisor.ctl.completion import queue_names
from supervisor.ctl.output import as_json, progress, safe, say
from supervisor.ctl.target import Target, pass_target, targeted

EVERY = 0.2


class Span(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """`30s`, `5m`, or seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return units.duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@targeted
@click.argument("queues", nargs=-1, metavar="[QUEUE]...", shell_complete=queue_names)
@click.option("--timeout", type=Span(), metavar="30s", help="Give up after that; without it, never.")
@click.option("--ignore-scheduled", is_flag=True, help="Do not wait for delayed jobs and retries.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def wait(target: Target, queues: tuple[str, ...], timeout: float | None, ignore_scheduled: bool, json_: bool) -> None:
    """Wait until nothing is pending, scheduled or being processed. Exit code 1 if the time is up before that."""
    began, most = time.monotonic(), 0
    with progress("jobs done") as tell:
        while True:
            states = target.inspector.snapshot(queues or None).queues.values()
            left = {s.name: s.pending + s.processing + (0 if ignore_scheduled else s.scheduled) for s in states}
            total = sum(left.values())
            most = max(most, total)
            tell(most - total, most)
            if total == 0:
                break
            rest = EVERY if timeout is None else began + timeout - time.monotonic()
            if rest <= 0:
                break
            time.sleep(min(EVERY, rest))
    if json_:
        as_json({"left": total, "queues": left, "seconds": round(time.monotonic() - began, 3)})
    if total == 0:
        return
    say(f"{total} jobs left: " + ", ".join(f"{safe(name)} {n}" for name, n in sorted(left.items()) if n))
    sys.exit(1)
