"""`jqctl stats`, `workers`, `ls` and `show`: looking, and nothing else."""

from __future__ import annotations

import re
import sys
from typing import Any, cast

import click

from jobqueue.port import State
from supervisor.ctl.completion import queue_names
from supervisor.ctl.output import ago, as_json, as_json_list, moment, safe, say, table
from supervisor.ctl.target import Target, pass_target, targeted

STATES = ("pending", "scheduled", "processing", "dead")


@click.command()
@targeted
@click.option("--json", "json_", is_flag=True, help="As the exporter's /stats.")
@pass_target
def stats(target: Target, json_: bool) -> None:
    """How much is in each queue, and how old it is."""
    found = target.inspector.snapshot()
    if json_:
        as_json(found.plain())
        return
    columns = ("queue", "pending", "scheduled", "processing", "dead", "latency", "enqueued", "processed", "retried", "")
    rows = []
    for name, q in sorted(found.queues.items()):
        remark = q.broken or (f"paused {q.paused}".rstrip() if q.paused is not None else "")
        totals = [q.totals.get(counter, 0) for counter in ("enqueued", "processed", "retried")]
        rows.append((name, q.pending, q.scheduled, q.processing, q.dead, ago(q.latency), *totals, remark))
    table(columns, rows, columns[1:9])
    say(f"{len(found.workers)} workers")


@click.command()
@targeted
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def workers(target: Target, json_: bool) -> None:
    """Every host's workers and what they run."""
    from jobqueue.redis.snapshot import plain_worker

    found = target.inspector.workers()
    if json_:
        as_json_list(plain_worker(worker) for worker in found)
        return
    rows = []
    for worker in found:
        name, runs = worker.name, worker.running or {}
        doing = (
            f"{runs['type']} {runs['job_id']} for {ago(runs['running_seconds'])}"
            if runs
            else "?"
            if worker.report is None
            else "idle"
        )
        lease = f"{worker.lease_seconds:.0f} s" if worker.lease_seconds > 0 else "ended"
        rows.append((name.host, name.slot, name.pid or "", ",".join(worker.queues), worker.held, lease, doing))
    table(("host", "worker", "pid", "queues", "held", "lease", "runs"), rows, ("pid", "held", "lease"))


@click.command()
@targeted
@click.argument("queue", shell_complete=queue_names)
@click.option("--state", type=click.Choice(STATES), default="pending", show_default=True)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0)
@click.option("--newest", is_flag=True, help="Newest first; otherwise what runs (or died) first.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def ls(target: Target, queue: str, state: str, limit: int, offset: int, newest: bool, json_: bool) -> None:
    """The jobs of a queue, a page at a time."""
    entries = target.browser.ls(queue, cast(State, state), offset, limit, newest=newest)
    if json_:
        as_json_list(entry.plain() for entry in entries)
        return
    listing(entries, target.browser.now_ms())
    if len(entries) == limit:
        say(f"more with --offset {offset + limit}")


@click.command()
@targeted
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="Q", help="Look only there; otherwise everywhere, which takes time in long queues.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def show(target: Target, job_id: str, queue: str | None, json_: bool) -> None:
    """Everything about one job."""
    entry = target.browser.find(job_id, queue)
    if entry is None:
        say(f"job {safe(job_id)} is in no queue (done, dropped, or never enqueued)")
        sys.exit(1)
    details(entry.plain(), json_)


def listing(entries: list[Any], now_ms: int) -> None:
    """Jobs as a table."""
    rows = []
    for entry in entries:
        e = entry.envelope
        since = entry.score_ms if entry.score_ms is not None else e.enqueued_at
        remark = entry.problem or (f"{e.error.kind}: {e.error.message}" if e.error else "") or (entry.worker or "")
        payload = safe(entry.payload.decode("utf-8", "backslashreplace"), 60)
        rows.append(
            (e.id or "–", e.type, ago((now_ms - since) / 1000) if since else "–", e.attempt, payload, safe(remark, 60))
        )
    table(("id", "type", "age", "attempt", "payload", ""), rows, ("age", "attempt"))


def details(found: dict[str, Any], json_: bool) -> None:
    """One job, every field."""
    if json_:
        as_json(found)
        return
    traceback = ""
    for name, value in found.items():
        shown = bytes(value).decode("utf-8", "replace") if name == "payload" else value
        if name == "error":
            traceback = value.pop("traceback", "")
            for part, text in value.items():
                click.echo(f"{'error ' + part:14} {_value(part, text)}")
            continue
        click.echo(f"{name:14} {_value(name, shown)}")
    for line in traceback.splitlines():
        click.echo(f"  {safe(line)}")


def _value(name: str, value: Any) -> str:
    if re.fullmatch(r"(.*_)?at", name) and isinstance(value, int):
        return moment(value)
    return safe(value)
