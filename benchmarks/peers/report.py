"""The peers' figures as a Markdown table, as data for JSON, and as an SVG drawn by hand. Pure. Called by `benchmarks.peers`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from benchmarks.ground import median
from benchmarks.peers.measure import RERUN_WITHIN


@dataclass(slots=True)
class Entry:
    """One peer. `figures`: a number a round; None where the peer has no such thing."""

    promise: str
    note: str
    version: str = ""
    figures: dict[str, list[float | None]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def numbers(self, name: str) -> list[float]:
        return [one for one in self.figures.get(name, []) if one is not None]

    def middle(self, name: str) -> float | None:
        return median(numbers) if (numbers := self.numbers(name)) else None


Found = dict[str, Entry]

# figure → heading, more is better
COLUMNS = {
    "drain": ("drain, jobs/s", True),
    "enqueue": ("enqueue in a loop, jobs/s", True),
    "bulk": ("enqueue in bulk, jobs/s", True),
    "pickup_p50": ("pickup p50, ms", False),
    "pickup_p99": ("pickup p99, ms", False),
    "rerun": ("kill -9 to re-run, s", False),
    "memory": ("memory, MiB", False),
}


def plain(found: Found) -> dict[str, Any]:
    return {name: asdict(entry) for name, entry in found.items()}


def table(found: Found, where: dict[str, Any]) -> str:
    """The best of each column in bold; drain with its spread."""
    order = sorted(found, key=lambda name: -(found[name].middle("drain") or 0))
    best = {name: _best(found, name, more) for name, (_, more) in COLUMNS.items()}
    lines = [
        f"| | promise | {' | '.join(heading for heading, _ in COLUMNS.values())} |",
        f"|---|---|{'---:|' * len(COLUMNS)}",
    ]
    for name in order:
        entry = found[name]
        cells = [_cell(entry, column, best[column]) for column in COLUMNS]
        promise = entry.promise if entry.promise == "at-least-once" else f"**{entry.promise}**"
        lines.append(f"| {name} {entry.version} | {promise} | {' | '.join(cells)} |")
    about = f"{where['processor']}, {where['cpus']} CPUs shared with the Redis server, Linux {where['kernel']}, {where['date']}"
    lines += [
        "",
        f"{about}; load before: {where['load_before']:.1f}. Two worker processes each; medians, spread of the drain in brackets.",
    ]
    lines += [*ratios(found), "", *wins(found), "", *(f"- {name}: {found[name].note}" for name in order)]
    problems = [f"- {name}: {problem.splitlines()[0]}" for name in order for problem in found[name].problems]
    return "\n".join([*lines, *(["", "Not measured:", *problems] if problems else []), ""])


def ratios(found: Found) -> list[str]:
    """How many times the drain of BullMQ, and of the best at-least-once queue in Python."""
    ours = found["jqd"].middle("drain") if "jqd" in found else None
    others = {
        name: figure for name, entry in found.items()
        if not name.startswith("jqd") and entry.promise == "at-least-once" and (figure := entry.middle("drain"))
    }  # fmt: skip
    python = {name: figure for name, figure in others.items() if name != "BullMQ"}
    rivals = [name for name in ("BullMQ", max(python, key=lambda name: python[name], default="")) if name in others]
    if ours is None or not rivals:
        return []
    return ["", f"jqd drains {' and '.join(f'{ours / others[name]:.1f} times as many as {name}' for name in rivals)}."]


def wins(found: Found) -> list[str]:
    """A sentence for each column in which jqd is not the best."""
    told = []
    for column, (heading, more) in COLUMNS.items():
        ours = found["jqd"].middle(column) if "jqd" in found else None
        best = _best(found, column, more)
        if ours is None or best is None or best == ours:
            continue
        better = {
            name: figure for name, entry in found.items()
            if not name.startswith("jqd") and (figure := entry.middle(column)) is not None and (figure > ours if more else figure < ours)
        }  # fmt: skip
        if better:
            names = ", ".join(f"{name} ({number(figure)})" for name, figure in better.items())
            told.append(f"- {heading}: better than jqd ({number(ours)}): {names}")
    return ["Where a peer wins:", "", *told] if told else ["No peer wins a column."]


def _best(found: Found, column: str, more: bool) -> float | None:
    figures = [figure for entry in found.values() if (figure := entry.middle(column)) is not None]
    return (max if more else min)(figures) if figures else None


def _cell(entry: Entry, column: str, best: float | None) -> str:
    middle = entry.middle(column)
    if middle is None:
        if column == "rerun" and column in entry.figures:
            return "never" if entry.promise == "at-most-once" else f"> {RERUN_WITHIN:g}"
        return "–"
    text = f"**{number(middle)}**" if middle == best else number(middle)
    numbers = entry.numbers(column)
    return f"{text} ({number(min(numbers))}–{number(max(numbers))})" if column == "drain" and len(numbers) > 1 else text


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


STYLE = (
    "<style>text{fill:#333}.a{fill:#2563eb}.b{fill:#94a3b8}.c{fill:#f0b429}line{stroke:#ddd}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}line{stroke:#444}}</style>"
)


def plot(found: Found) -> str:
    """Horizontal bars of the drain, logarithmic."""
    rows = sorted(((entry.middle("drain") or 0, name) for name, entry in found.items()), reverse=True)
    rows = [row for row in rows if row[0] > 0]
    left, width, step, top = 170, 520, 26, 54
    low, high = 1.5, math.ceil(math.log10(max([row[0] for row in rows], default=10)) * 2) / 2

    def across(value: float) -> float:
        return max(2.0, (math.log10(value) - low) / (high - low) * width)

    box = f'viewBox="0 0 {left + width + 120} {top + step * len(rows) + 34}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="system-ui, sans-serif" font-size="13">',
        STYLE,
        f'<text x="{left}" y="20" font-weight="600">No-op jobs drained a second, two worker processes (logarithmic)</text>',
    ]
    for exponent in range(2, math.floor(high) + 1):
        x = left + across(10**exponent)
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{top - 8}" y2="{top + step * len(rows)}"/>')
        parts.append(f'<text x="{x:.0f}" y="{top - 14}" text-anchor="middle" font-size="11">{10**exponent:,}</text>')
    for i, (value, name) in enumerate(rows):
        y, kind = (
            top + i * step,
            "a" if name.startswith("jqd") else "c" if found[name].promise == "at-most-once" else "b",
        )
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{kind}" x="{left}" y="{y}" width="{across(value):.0f}" height="18" rx="2"/>')
        parts.append(f'<text x="{left + across(value) + 6:.0f}" y="{y + 14}">{number(value)}</text>')
    y = top + step * len(rows) + 22
    parts.append(f'<text x="{left}" y="{y}" font-size="11">yellow: at-most-once; all others at-least-once</text></svg>')
    return "\n".join(parts) + "\n"
