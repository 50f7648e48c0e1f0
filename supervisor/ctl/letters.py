"""`jqctl dead`: looking at dead letters, retrying them, dropping them, mending one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

import click

from jobqueue import where
from supervisor.ctl.completion import queue_names
from supervisor.ctl.look import details, listing
from supervisor.ctl.output import Rate, as_json, as_json_list, progress, safe, say
from supervisor.ctl.target import Target, pass_target, targeted

F = TypeVar("F", bound=Callable[..., Any])


class PerSecond(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """`10` or `10/s`, `600/m`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(s|m|h))?", str(value))
        if match is None or float(match[1]) <= 0:
            self.fail("expected a rate such as 10/s", param, ctx)
        return float(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


def selecting(function: F) -> F:
    """The options that say which letters are meant."""
    queue = click.option(
        "--queue", metavar="Q", help="Only of this queue; otherwise of all.", shell_complete=queue_names
    )
    filtered = click.option(
        "--where", "where_", metavar="FILTER", default="", help="'type=… error~=… age>1h attempt>=3'"
    )
    return targeted(queue(filtered(function)))


def acting(function: F) -> F:
    """The options of what changes letters."""
    ids = click.argument("ids", nargs=-1, metavar="[ID]...")
    dry = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
    yes = click.option("--yes", is_flag=True, help="Do it without asking.")
    rate = click.option("--rate", type=PerSecond(), metavar="N/s", help="At most so many a second.")
    limit = click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
    json_ = click.option("--json", "json_", is_flag=True, help="Print JSON.")
    return ids(selecting(dry(yes(rate(limit(json_(function)))))))


@click.group()
@targeted
def dead() -> None:
    """The dead letter queue."""


@dead.command("ls")
@selecting
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def ls_(target: Target, queue: str | None, where_: str, limit: int, json_: bool) -> None:
    """Dead letters, those that died first first."""
    found = islice(_letters(target, queue, where_), limit)
    if json_:
        as_json_list(entry.plain() for entry in found)
    else:
        listing(list(found), target.browser.now_ms())


@dead.command("show")
@targeted
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="Q")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def show_(target: Target, job_id: str, queue: str | None, json_: bool) -> None:
    """Everything about one dead letter, with its traceback."""
    for entry in _letters(target, queue, "", (job_id,)):
        details(entry.plain(), json_)
        return
    say(f"there is no dead letter {safe(job_id)}")
    sys.exit(1)


@dead.command()
@acting
@pass_target
def retry(
    target: Target, ids: tuple[str, ...], queue: str | None, where_: str, dry_run: bool, yes: bool,
    rate: float | None, limit: int | None, json_: bool,
) -> None:  # fmt: skip
    """Put dead letters back into their queues, with attempts and crashes forgotten."""
    chosen = _chosen(target, ids, queue, where_, limit)
    if dry_run:
        _tell("would retry", sum(1 for _ in chosen), [], json_)
        return
    first = _confirmed("retry", ids, where_, chosen, yes)
    done, kept, pace = 0, [], Rate(rate)
    with progress("retrying") as tell:
        for entry in first:
            pace.one()
            answer = target.operator.retry(entry)
            done += answer.ok
            if answer.held_by:
                kept.append(
                    f"{entry.envelope.id}: its unique key {entry.envelope.unique!r} is held by job {answer.held_by}"
                )
            tell(done)
    _tell("retried", done, kept, json_)


@dead.command()
@acting
@pass_target
def drop(
    target: Target, ids: tuple[str, ...], queue: str | None, where_: str, dry_run: bool, yes: bool,
    rate: float | None, limit: int | None, json_: bool,
) -> None:  # fmt: skip
    """Delete dead letters for good."""
    chosen = _chosen(target, ids, queue, where_, limit)
    if dry_run:
        _tell("would drop", sum(1 for _ in chosen), [], json_)
        return
    done, pace = 0, Rate(rate)
    with progress("dropping") as tell:
        for entry in _confirmed("drop", ids, where_, chosen, yes):
            pace.one()
            done += target.operator.drop([entry])
            tell(done)
    _tell("dropped", done, [], json_)


@dead.command()
@targeted
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="Q", help="Only of this queue; otherwise of all.", shell_complete=queue_names)
@click.option(
    "--payload", metavar="JSON", help="The new payload; text for a raw queue. Else $EDITOR opens the old one."
)
@click.option("--retry", "then_retry", is_flag=True, help="Put it back into its queue then.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def edit(target: Target, job_id: str, queue: str | None, payload: str | None, then_retry: bool, json_: bool) -> None:
    """Give one dead letter another payload. All else about it stays."""
    entry = next(_letters(target, queue, "", (job_id,)), None)
    if entry is None:
        say(f"there is no dead letter {safe(job_id)}")
        sys.exit(1)
    new = _edited(entry.payload) if payload is None else payload.encode("utf-8", "surrogateescape")
    if new is None:
        say("nothing was changed")
        sys.exit(1)
    edited = target.operator.edit(entry, new)
    if edited is None:
        say(f"dead letter {safe(job_id)} is gone: somebody else retried or dropped it")
        sys.exit(1)
    answer = target.operator.retry(edited) if then_retry else None
    if json_:
        as_json({"id": job_id, "edited": True, "retried": bool(answer and answer.ok)})
    else:
        click.echo(f"{safe(job_id)} is changed" + (" and retried" if answer and answer.ok else ""))
    if answer is not None and not answer.ok:
        say(f"it was not retried: its unique key is held by job {safe(answer.held_by)}")
        sys.exit(1)


def _edited(payload: bytes) -> bytes | None:
    """What $EDITOR makes of it; None if it was left alone."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise click.UsageError("This payload is not text: give the new one with --payload.") from None
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal for an editor: give the new payload with --payload.")
    changed = click.edit(text, extension=".json")
    # Editors end a file with a line feed that nobody typed.
    return None if changed is None or changed.rstrip("\n") == text.rstrip("\n") else changed.rstrip("\n").encode()


def _letters(target: Target, queue: str | None, where_: str, ids: Iterable[str] = ()) -> Iterator[Any]:
    wanted, meant = set(ids), where.parse(where_)
    for name in [queue] if queue is not None else target.inspector.queues():
        for page in target.browser.dead(name, meant):
            yield from (entry for entry in page if not wanted or entry.envelope.id in wanted)


def _chosen(target: Target, ids: tuple[str, ...], queue: str | None, where_: str, limit: int | None) -> Iterator[Any]:
    return islice(_letters(target, queue, where_, ids), limit)


def _confirmed(verb: str, ids: tuple[str, ...], where_: str, chosen: Iterator[Any], yes: bool) -> Iterator[Any]:
    """The letters, once it is clear that they are meant: named by id, or --yes, or the question is answered."""
    first = next(chosen, None)
    if first is None:
        return iter(())
    if not (ids or yes):
        if not sys.stdin.isatty():
            raise click.UsageError(f"This would {verb} many jobs: add --yes, or look first with --dry-run.")
        click.confirm(
            f"{verb} {'all dead letters' if not where_ else 'the dead letters with ' + where_}?", abort=True, err=True
        )
    return chain([first], chosen)


def _tell(what: str, number: int, kept: list[str], json_: bool) -> None:
    if json_:
        as_json({what.replace("would ", "would_"): number, "kept": kept})
    else:
        for line in kept:
            say(safe(line))
        click.echo(f"{what} {number}")
    if number == 0:
        sys.exit(1)
