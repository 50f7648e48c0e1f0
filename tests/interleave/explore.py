"""Walks through every schedule the bounds allow, each moment once, and checks the promises in each.

Not random and not a sample: what it reports as visited is all there is within the bounds. Used by test_interleavings.py and by
`python -m tests.interleave`.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

from tests.interleave.world import Bounds, Broken, State, World, decoded, places

sys.setrecursionlimit(10_000)
LONGEST = 300  # steps of one schedule


@dataclass(slots=True)
class Explorer:
    """`states`: different moments seen. `steps`: commands and events tried. `schedules`: different orders of them from the start to an end."""

    world: World
    states: int = 0
    steps: int = 0
    ends: int = 0
    _seen: dict[int, int] = field(default_factory=dict)
    _path: list[str] = field(default_factory=list)

    def explore(self, workers: int, stewards: int, bounds: Bounds) -> int:
        """Visit everything; the number of schedules. Raises Broken with the schedule that led there."""
        start = self.world.start(workers, stewards, bounds)
        try:
            return self._visit(start)
        except AssertionError as broken:
            raise Broken(f"{broken}\nafter: {' · '.join(self._path)}") from None

    def _visit(self, s: State) -> int:
        key = hash(s)
        known = self._seen.get(key)
        if known is not None:
            return known
        check(s)
        _must(len(self._path) < LONGEST, "it does not come to an end")
        self.states += 1
        schedules, quiet = 0, True
        for name, then in self.world.moves(s):
            self.steps += 1
            self._path.append(name)
            quiet = quiet and _may_never_happen(name, s)
            schedules += self._visit(then)
            self._path.pop()
        if quiet and not _work(s):
            self.ends += 1
            check_end(s)
        self._seen[key] = schedules or 1
        return schedules or 1


def _may_never_happen(name: str, s: State) -> bool:
    """A late command may as well never run, and trouble need not come: where only such steps are left is an end, too."""
    return name.startswith(("late", "kill", "wake")) or " is lost" in name or (" fences " in name and not _work(s))


def _work(s: State) -> bool:
    """Somebody still has something to do."""
    busy = any(w.state == "up" and (w.running or w.held or w.done or w.broken) for w in s.workers)
    to_recover = any(w.state != "up" and w.name in s.kept.leases for w in s.workers)
    return (
        busy
        or to_recover
        or any(one.worker for one in s.stewards)
        or bool(places(s.kept))
        or any(w.state == "up" and w.suspected for w in s.workers)
    )


def check(s: State) -> None:
    """What holds at every moment."""
    kept, live = s.kept, Counter(decoded(element).id for element in places(s.kept))
    dead = Counter(decoded(element).id for element in kept.dead)
    ran, totals = dict(s.ran), dict(kept.stats)
    twice = [job_id for job_id, n in (live + dead).items() if n > 1]
    _must(not twice, f"{twice} are in two places at once")
    _must(set(live) | set(dead) <= s.accepted, "jobs nobody enqueued")
    for job_id in s.ended:
        _must(ran.get(job_id, 0) > 0, f"{job_id} is gone, but no worker has ended it")
    _must(totals.get("enqueued", 0) == len(s.accepted), "enqueued is not what was accepted")
    _must(
        totals.get("processed", 0) == len(s.ended),
        f"processed says {totals.get('processed', 0)}, gone are {sorted(s.ended)}: settled twice or lost",
    )
    _must(totals.get("dead", 0) == len(dead), "a job was buried twice")
    if not s.troubled:
        _must(all(n == 1 for n in ran.values()), f"{ran}: a job ran twice though no process died")
    for key, holder in kept.unique:
        _must(holder in live, f"the unique key {key} is held by {holder}, which does not live")
    for element in places(kept):
        envelope = decoded(element)
        _must(
            not envelope.unique or dict(kept.unique).get(envelope.unique) == envelope.id,
            f"{envelope.id} lives without its unique key",
        )
    _check_lists(s)


def _check_lists(s: State) -> None:
    """Every processing list has an owner whom somebody watches, and holds what that owner believes to hold."""
    lists = dict(s.kept.processing)
    for name in lists:
        _must(name in s.kept.leases, f"nobody will ever empty the list of {name}")
    for w in s.workers:
        if w.state != "up" or w.suspected or w.broken:
            continue
        mine = [*(settlement.element for settlement in w.done), *([w.running] if w.running else []), *w.held]
        held = list(lists.get(w.name, ()))
        # Acks of plain jobs do not name their element; what was handed back is missing at the new end.
        started = len(w.done) + (w.running is not None)
        _must(
            started <= len(held) <= len(mine), f"{w.name} believes to hold {len(mine)} jobs, its list has {len(held)}"
        )
        _must(held[len(w.done) :] == mine[len(w.done) : len(held)], f"{w.name} and its list differ")


def check_end(s: State) -> None:
    """What holds when nothing is left to do."""
    dead = {decoded(element).id for element in s.kept.dead}
    _must(s.ended | dead == s.accepted, f"accepted {sorted(s.accepted)}, ended {sorted(s.ended)}, dead {sorted(dead)}")
    _must(not s.kept.unique, f"unique keys are left: {s.kept.unique}")
    _must(not s.kept.processing and not s.kept.next, "lists are left")
    owners = {w.name for w in s.workers if w.state == "up"}
    _must(set(s.kept.leases) <= owners, f"leases of the dead are left: {s.kept.leases}")
    _must({name for name, _ in s.kept.workers} <= owners and not s.kept.was, "registrations of the dead are left")


def _must(true: object, otherwise: str) -> None:
    if not true:
        raise Broken(otherwise)
