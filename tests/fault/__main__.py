"""`python -m tests.fault [--flow NAME]… [--fault NAME]… [--out FILE]`: the exhaustive search, one line a point that is
not sound, then a table.

`make fault` runs it all. Results also go to FILE as JSON lines, so that long searches can be done in pieces; `--table
FILE…` prints the table of docs/reliability.md from such files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.fault.faults import FAULTS
from tests.fault.flows import FLOWS
from tests.fault.points import Result, search
from tests.fault.stage import Stage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flow", action="append", choices=FLOWS)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", nargs="*", type=Path)
    asked = parser.parse_args()
    if asked.table:
        print(table([json.loads(line) for path in asked.table for line in path.read_text().splitlines()]))
        return 0
    rows = []
    for name in asked.flow or FLOWS:
        with Stage() as stage:
            start = time.monotonic()
            mine = []
            for result in search(stage, FLOWS[name], asked.fault or FAULTS):
                mine.append(row(result))
                if not result.verdict.sound:
                    print(result, flush=True)
                if asked.out:
                    with asked.out.open("a") as file:
                        file.write(json.dumps(mine[-1]) + "\n")
            reached = sum(r["reached"] for r in mine)
            print(f"{name}: {reached} of {len(mine)} points reached in {time.monotonic() - start:.0f} s", flush=True)
            rows += mine
    print(table(rows))
    return 0 if all(r["sound"] for r in rows) else 1


def row(result: Result) -> dict[str, Any]:
    return {
        "flow": result.flow,
        "fault": result.fault,
        "point": str(result.point),
        "reached": result.reached,
        "sound": result.verdict.sound,
        "reruns": len(result.verdict.explained),
        "seconds": round(result.seconds, 3),
        "verdict": str(result.verdict),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: points reached by fault and flow, then what each fault cost: reruns, and the time until all was calm."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for r in rows:
        if r["reached"]:
            cells[r["fault"], r["flow"]].append(r)
    flows = [name for name in FLOWS if any(flow == name for _, flow in cells)]
    lines = [f"| fault | {' | '.join(flows)} | reruns | calm after: median, max |", "|---" * (len(flows) + 3) + "|"]
    for fault in FAULTS:
        found = [r for (name, _), part in cells.items() if name == fault for r in part]
        if found:
            counts = [_cell(cells.get((fault, flow), [])) for flow in flows]
            seconds = [r["seconds"] for r in found]
            calm = f"{statistics.median(seconds):.2f} s, {max(seconds):.1f} s"
            lines.append(f"| {fault} | {' | '.join(counts)} | {sum(r['reruns'] for r in found)} | {calm} |")
    total, unsound = sum(len(part) for part in cells.values()), sum(not r["sound"] for r in rows)
    return "\n".join(
        [*lines, "", f"{total} points reached, {unsound} of them unsound; {len(rows) - total} not reached."]
    )


def _cell(found: list[dict[str, Any]]) -> str:
    bad = sum(not r["sound"] for r in found)
    return "" if not found else f"{len(found)}, **{bad} unsound**" if bad else str(len(found))


if __name__ == "__main__":
    sys.exit(main())
