"""How jqctl prints: tables for people, JSON for programs, nothing from a payload that a terminal would obey.

Progress and remarks go to standard error, results to standard output. NO_COLOR and pipes get plain text.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

_UNSAFE_JSON = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def safe(text: object, most: int | None = None) -> str:
    """`text` on one line with control and invisible characters spelt out, cut to `most` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in _encodable(str(text)))
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def say(text: str) -> None:
    """A remark, to standard error."""
    click.echo(text, err=True)


def as_json(value: Any) -> None:
    """One value on one line. Escapes what is legal in JSON but not harmless on a terminal."""
    text = msgspec.json.encode(value).decode("utf-8", "replace").replace("\n", " ")
    click.echo(_UNSAFE_JSON.sub(lambda m: f"\\u{ord(m[0]):04x}", text))


def as_json_list(values: Iterable[Any]) -> None:
    """A JSON array, one element a line, written as it comes."""
    click.echo("[", nl=False)
    for n, value in enumerate(values):
        click.echo(",\n " if n else "", nl=False)
        text = msgspec.json.encode(value).decode("utf-8", "replace").replace("\n", " ")
        click.echo(_UNSAFE_JSON.sub(lambda m: f"\\u{ord(m[0]):04x}", text), nl=False)
    click.echo("]")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table; columns named in `right` are numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        # Wide enough that nothing is cut for a program that reads it.
        widths = [max(len(safe(row[i])) for row in [columns, *rows]) + 2 for i in range(len(columns))]
        console.width = max(80, sum(widths) + len(columns) * 3)
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        grid.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in ("id", "queue", *right)
        )
    for row in rows:
        grid.add_row(*(Text(safe(cell)) for cell in row))
    console.print(grid)


def ago(seconds: float | None) -> str:
    """An age in two digits or so: 340 ms, 12 s, 5 min, 3 h, 2 d."""
    if seconds is None:
        return "–"
    if seconds < 0:
        return f"in {ago(-seconds)}"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return (
                f"{seconds / size:.1f} {unit}" if seconds < 10 * size and size > 1 else f"{seconds / size:.0f} {unit}"
            )
    return f"{seconds * 1000:.0f} ms"


def moment(ms: int) -> str:
    """A time of the server's clock, UTC."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Any]:
    """A bar on standard error, if that is a terminal. Yields a function to call with the number done so far."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=total: bar.update(task, completed=done, total=total)


class Rate:
    """At most `per_second` of something; None: no limit. A plan by the clock, so that slow work is made up for."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second, self._began, self._done = per_second, time.monotonic(), 0

    def one(self) -> None:
        """Wait until one more is allowed."""
        if self._per_second:
            due = self._began + self._done / self._per_second
            time.sleep(max(0.0, due - time.monotonic()))
            self._done += 1


def _encodable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding, "replace")
