"""`jqctl cron ls` and `cron run`: the entries of the config file, when they ticked last and tick next, and one of them now."""

from __future__ import annotations

import os
from typing import Any

import click
import msgspec

from jobqueue.cronjob import headers_of, queue_of, schedule_of
from jobqueue.settings import CronEntry
from supervisor.ctl.output import ago, as_json, as_json_list, moment, safe, say, table
from supervisor.ctl.target import Target, pass_target, targeted


@click.group()
@targeted
def cron() -> None:
    """Jobs by the clock, as the config file has them."""


@cron.command("ls")
@targeted
@click.option("--json", "json_", is_flag=True, help="Print JSON; times in ms since 1970.")
@pass_target
def list_(target: Target, json_: bool) -> None:
    """All entries: the last tick, and the next one."""
    entries = sorted(_entries(target).items())
    queues = [queue_of(entry, target.settings[1]) for _, entry in entries]
    now, ticked = target.inspector.ticks([(queue, name) for queue, (name, _) in zip(queues, entries, strict=True)])
    found = [_plain(*one, queue, last, now) for one, queue, last in zip(entries, queues, ticked, strict=True)]
    if json_:
        as_json_list(found)
        return
    columns = ("entry", "schedule", "time zone", "type", "queue", "last tick", "next tick", "")
    rows = []
    for one in found:
        last, following = one["last_tick"], one["next_tick"]
        shown = [moment(at) if at is not None else "–" for at in (last, following)]
        soon = ago((now - following) / 1000) if following is not None else ""
        rows.append((one["name"], one["schedule"], one["timezone"], one["type"], one["queue"], *shown, soon))
    table(columns, rows)


@cron.command()
@targeted
@click.argument("name")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def run(target: Target, name: str, json_: bool) -> None:
    """Enqueue the job of entry NAME now, beside its schedule, and print its id."""
    entries = _entries(target)
    if name not in entries:
        raise click.ClickException(
            f"there is no entry {safe(name)!r} in {target.path}; there are: {', '.join(entries)}"
        )
    entry = entries[name]
    queues = target.settings[1]
    job = target.queue.enqueue(
        entry.type,
        msgspec.json.decode(entry.payload),
        queue=queue_of(entry, queues),
        unique=entry.unique,
        max_attempts=entry.max_attempts,
        headers=headers_of(name, entry, queues, target.inspector.ticks([])[0]),
    )
    if json_:
        as_json({"id": job.id, "duplicate": job.duplicate})
        return
    click.echo(safe(job.id))
    if job.duplicate:
        say("a live job holds its unique key already: that one's id")


def _entries(target: Target) -> dict[str, CronEntry]:
    if target.path is None:
        raise click.UsageError("Entries are in the config file: use -c FILE.")
    from jobqueue.yamlcron import load_entries

    return load_entries(target.path, os.environ)


def _plain(name: str, entry: CronEntry, queue: str, ticked: int | None, now: int) -> dict[str, Any]:
    schedule = schedule_of(entry)
    if ticked is not None and schedule.after(ticked - 1) != ticked:
        ticked = None  # the moment from which on it counts, or of another schedule
    return {
        "name": name,
        "schedule": entry.schedule,
        "timezone": entry.timezone,
        "type": entry.type,
        "queue": queue,
        "last_tick": ticked,
        "next_tick": schedule.after(max(now, ticked or 0)),
    }
