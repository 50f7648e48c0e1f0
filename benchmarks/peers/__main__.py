"""`make bench-peers`: installs the peers, lets all take turns, writes results/peers.json, peers.md and peers.svg. Unattended, ≤ 12 minutes.

    python -m benchmarks.peers [--rounds 3] [--scale 1.0] [--only jqd,SAQ] [--no-kill] [--out DIR]

A peer that cannot be installed, or does not do in time what was asked of it, is told in the table; the others go on.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.ground import RESULTS, machine, publish
from benchmarks.peers import measure, report
from benchmarks.peers.field import GaveUp
from benchmarks.peers.install import NotInstalled, install, installed_version
from benchmarks.peers.peers import PEERS, Peer


def attempt(peer: Peer, found: report.Found, work: Callable[[], measure.Figures], what: str) -> None:
    """Run one measurement and keep its figures, or why there are none."""
    start = time.monotonic()
    entry = found[peer.name]
    try:
        figures = work()
    except (GaveUp, OSError, ValueError, IndexError, psutil.Error, subprocess.TimeoutExpired) as error:
        entry.problems.append(f"{what}: {error}")
        print(f"{peer.name}: {what}: {error}", flush=True)
        return
    for name, figure in figures.items():
        entry.figures.setdefault(name, []).append(figure)
    told = ", ".join(f"{name} {figure:,.2f}" for name, figure in figures.items() if figure is not None)
    print(f"{peer.name}: {what}: {told or 'none'}  ({time.monotonic() - start:.0f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of jobs")
    parser.add_argument("--only", help="names, separated by semicolons")
    parser.add_argument("--no-kill", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    chosen = [peer for peer in PEERS if args.only is None or peer.name in args.only.split(";")]
    found: report.Found = {}
    ready = []
    for peer in chosen:
        found[peer.name] = report.Entry(peer.promise, peer.note)
        try:
            install(peer)
            found[peer.name].version = installed_version(peer)
            ready.append(peer)
        except NotInstalled as error:
            found[peer.name].problems.append(f"not installed: {error}")
            print(f"{peer.name}: not installed: {error}", flush=True)
    where = machine()
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", flush=True)
        for peer in ready:
            attempt(peer, found, lambda peer=peer: measure.drained(peer, args.scale), "drain")  # type: ignore[misc]
    for peer in ready:
        attempt(peer, found, lambda peer=peer: measure.awaited(peer, args.scale), "pickup")  # type: ignore[misc]
    if not args.no_kill:
        # They mostly wait, so all wait together.
        with ThreadPoolExecutor(len(ready) or 1) as pool:
            for peer in ready:
                pool.submit(attempt, peer, found, lambda peer=peer: measure.rerun(peer), "kill -9")  # type: ignore[misc]
    text = report.table(found, where)
    print(f"\n{text}")
    out = args.out or (None if args.only or args.scale != 1 else RESULTS)
    if out is not None:
        publish("peers", text, {"machine": where, "peers": report.plain(found)}, out, report.plot(found))


if __name__ == "__main__":
    main()
