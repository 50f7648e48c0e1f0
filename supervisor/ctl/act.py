"""`jqctl pause`, `resume`, `cancel`, `purge`, `promote`."""

from __future__ import annotations

import sys

import click

from supervisor.ctl.completion import queue_names
from supervisor.ctl.output import as_json, progress, safe, say
from supervisor.ctl.target import Target, pass_target, targeted


@click.command()
@targeted
@click.argument("queue", shell_complete=queue_names)
@click.option("--reason", default="", help="Shown by stats and on the dashboard.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def pause(target: Target, queue: str, reason: str, json_: bool) -> None:
    """Let no worker take jobs of QUEUE; running ones finish."""
    target.operator.pause(queue, reason)
    as_json({"queue": queue, "paused": reason}) if json_ else click.echo(f"{safe(queue)} is paused")


@click.command()
@targeted
@click.argument("queue", shell_complete=queue_names)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def resume(target: Target, queue: str, json_: bool) -> None:
    """Take jobs of QUEUE again."""
    was = target.operator.resume(queue)
    if json_:
        as_json({"queue": queue, "was_paused": was})
    else:
        click.echo(f"{safe(queue)} is {'resumed' if was else 'running: it was not paused'}")


@click.command()
@targeted
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="Q", help="Look only there, and mark the id even if it is not found.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def cancel(target: Target, job_id: str, queue: str | None, json_: bool) -> None:
    """Take a job out that has not started. One that runs is not stopped, but never run again."""
    answer = target.operator.cancel(job_id, queue)
    shown = {
        "cancelled": "is cancelled",
        "marked": "is marked: it is dropped when a worker claims it (again)",
        "dead": "is dead already: see jqctl dead drop",
        "unknown": "is in no queue",
    }[answer]
    if json_:
        as_json({"id": job_id, "result": answer})
    else:
        click.echo(f"{safe(job_id)} {shown}")
    sys.exit(0 if answer in ("cancelled", "marked") else 1)


@click.command()
@targeted
@click.argument("queue", shell_complete=queue_names)
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def purge(target: Target, queue: str, dry_run: bool, yes: bool, json_: bool) -> None:
    """Drop everything that waits or is scheduled in QUEUE, and free the unique keys."""
    state = target.inspector.counts(queue)
    total = state.pending + state.scheduled
    if dry_run:
        as_json({"would_purge": total}) if json_ else click.echo(f"would purge {total}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"This would drop {total} jobs: add --yes, or look first with --dry-run.")
        click.confirm(f"drop {total} jobs of {safe(queue)}?", abort=True, err=True)
    gone = 0
    with progress("purging", total) as tell:
        for step in target.operator.purge(queue):
            gone += step
            tell(gone)
    as_json({"purged": gone}) if json_ else click.echo(f"purged {gone}")


@click.command()
@targeted
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="Q", help="Look only there.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def promote(target: Target, job_id: str, queue: str | None, json_: bool) -> None:
    """Run a scheduled job now."""
    entry = target.browser.find(job_id, queue)
    done = entry is not None and entry.state == "scheduled" and target.operator.promote(entry)
    if json_:
        as_json({"id": job_id, "promoted": done})
        sys.exit(0 if done else 1)
    if done:
        click.echo(f"{safe(job_id)} is in the ready list")
        return
    say(
        f"{safe(job_id)} is not scheduled"
        + (f" but {entry.state}" if entry is not None and entry.state != "scheduled" else "")
    )
    sys.exit(1)
