"""One frame of `jqctl top`: queues above, what runs below, as many rows as there is room for. Pure: data in, rich's tables out.

Not the terminal (`supervisor.ctl.top`) and not the asking. Whatever comes from a job goes through `safe`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.ctl.output import ago, safe
from supervisor.ctl.rates import Pace, spark

Order = Literal["longest", "name"]
SPARK = 30
WIDE = 100
"""Columns from which a frame has its less important ones."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What one look found. `stats` as in `/stats`, `health` as of `jobqueue.redis.health`; `note`: for the last line."""

    where: str
    clock: str
    stats: Mapping[str, Any]
    health: Mapping[str, Any]
    paces: Mapping[str, Pace]
    order: Order = "longest"
    first: int = 0
    note: str = ""
    error: str = ""


def draw(frame: Frame, width: int, height: int) -> RenderableType:
    """At most `height` lines."""
    queues = sorted(frame.stats.get("queues", {}).items())
    room = max(3, height - 9)
    rows = max(2, min(len(queues), room // 2)) if queues else 0
    workers = max(0, room - rows)
    parts: list[RenderableType] = [_title(frame, width), _totals(frame), Text("")]
    more = f"… {len(queues) - rows} more queues: see jqctl stats" if rows < len(queues) else ""
    parts += [_queues(frame, queues[:rows], width), Text(more, "dim")]
    parts += [_workers(frame, workers, width), _keys(frame)]
    return Group(*parts)


def _title(frame: Frame, width: int) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True, min_width=10)
    said, health = Text.assemble(("jqd ", "bold"), (safe(frame.where), "cyan")), frame.health
    if "name" in health:
        said.append(f"  {health['name']}", "dim")
    if width >= WIDE and "used_memory" in health:
        most = f" of {_bytes(health['maxmemory'])}" if health.get("maxmemory") else ""
        said.append(f"  memory {_bytes(health['used_memory'])}{most}", "dim")
    if width >= WIDE and "round_trip_ms" in health:
        said.append(f"  round trip {health['round_trip_ms']:.2f} ms", "dim")
    grid.add_row(said, Text(frame.clock, "dim"))
    return grid


def _totals(frame: Frame) -> Text:
    stats, paces = frame.stats, frame.paces.values()
    if frame.error:
        return Text(f"not reachable: {safe(frame.error)}", "bold red", no_wrap=True, overflow="ellipsis")
    running = sum(1 for worker in stats["workers"] if worker["running"])
    done = _sum(pace.done for pace in paces)
    failed = _sum(pace.failed for pace in paces)
    figures = (
        (f"{stats['pending']:,}", "waiting", "bold"), (str(running), f"of {len(stats['workers'])} workers busy", "bold"),
        (_rate(done), "done", "bold green"), (_rate(failed), "failed", "bold red" if failed else "bold"),
        (f"{stats['scheduled']:,}", "scheduled", "bold"), (f"{stats['dead']:,}", "dead", "bold red" if stats["dead"] else "bold"),
    )  # fmt: skip
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, word, style in figures:
        line.append(number, style).append(f" {word}   ", "dim")
    return line


def _queues(frame: Frame, shown: Sequence[tuple[str, Mapping[str, Any]]], width: int) -> Table:
    grid = _grid()
    grid.add_column("QUEUE", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("WAITING", "LATENCY", "DONE", "FAILED", "RUNNING", "SCHEDULED", "DEAD"):
        grid.add_column(name, justify="right", no_wrap=True)
    if width >= WIDE:
        grid.add_column("WAITING, LATELY", no_wrap=True, width=SPARK)
    for name, queue in shown:
        pace = frame.paces.get(name, Pace())
        label = Text(safe(name), "bold" if queue["pending"] else "")
        if queue["paused"] is not None:
            label.append(f"  paused {safe(queue['paused'])}".rstrip(), "yellow")
        if queue.get("broken"):
            label.append(f"  {safe(queue['broken'])}", "red")
        cells: list[Text] = [
            label, _number(queue["pending"], "bold"), Text(ago(queue["latency_seconds"]), _age_style(queue["latency_seconds"])),
            Text(_rate(pace.done), "green" if pace.done else "dim"), Text(_rate(pace.failed), "red" if pace.failed else "dim"),
            _number(queue["processing"]), _number(queue["scheduled"]), _number(queue["dead"], "red"),
        ]  # fmt: skip
        if width >= WIDE:
            cells.append(Text(spark(pace.depths, SPARK), "blue"))
        grid.add_row(*cells)
    return grid


def _workers(frame: Frame, room: int, width: int) -> Table:
    grid, found = _grid(), ordered(frame.stats.get("workers", ()), frame.order)
    first = min(frame.first, max(0, len(found) - room))
    shown = found[first : first + room]
    more = f" {first + 1}–{first + len(shown)} of {len(found)}" if len(shown) < len(found) else ""
    grid.add_column(f"WORKER{more}", no_wrap=True, min_width=14)
    grid.add_column("FOR", justify="right", no_wrap=True, min_width=7)
    grid.add_column("RUNS", no_wrap=True, overflow="ellipsis", ratio=1)
    if width >= WIDE:
        grid.add_column("HELD", justify="right")
        grid.add_column("PID", justify="right")
        grid.add_column("HOST", no_wrap=True)
    for worker in shown:
        running = worker["running"]
        runs = Text("idle", "dim")
        if running:
            runs = Text.assemble(safe(running["type"]), "  ", (safe(running["job_id"]), "dim"))
        elif worker["lease_seconds"] < 0:
            runs = Text("lost: its lease has ended", "red")
        seconds = running["running_seconds"] if running else None
        cells = [
            Text(f"{worker['pool']}/{worker['index']}"),
            Text(ago(seconds) if running else "", _age_style(seconds, 60)),
            runs,
        ]
        if width >= WIDE:
            cells += [_number(worker["held"]), Text(str(worker["pid"] or ""), "dim"), Text(safe(worker["host"]), "dim")]
        grid.add_row(*cells)
    return grid


def ordered(workers: Sequence[Mapping[str, Any]], order: Order) -> list[Mapping[str, Any]]:
    """Those that run longest first, or by host, pool and index."""
    by_name = sorted(workers, key=lambda w: (w["host"], w["pool"], w["index"]))
    if order == "name":
        return by_name
    return sorted(by_name, key=lambda w: -(w["running"]["running_seconds"] if w["running"] else -1.0))


def _keys(frame: Frame) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, what in (("q", "quit"), ("s", "sort: " + frame.order), ("↑↓", "scroll"), ("space", "refresh")):
        line.append(f" {key} ", "reverse").append(f" {what}   ", "dim")
    return line.append(frame.note, "yellow")


def _grid() -> Table:
    return Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _number(n: int, style: str = "") -> Text:
    return Text(f"{n:,}", style if n else "dim")


def _rate(rate: float | None) -> str:
    if rate is None:
        return "–"
    return f"{rate:,.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _age_style(seconds: float | None, long: float = 30) -> str:
    return "dim" if not seconds else "yellow" if seconds > long else ""


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
