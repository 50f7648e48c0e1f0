"""What a worker holds and what it knows to be written: the numbers behind its trips. No I/O, no clock.

A trip is one call of `settle`. Its reply may be lost; then `reconcile` tells what became of it, and everything is
matched by count: the worker's list is exactly the finished jobs it has not settled (the oldest), then those it holds.
By value would be wrong, payloads may be equal. Called by `jobqueue.worker`. Proofs and faults: docs/protocol.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from jobqueue.port import Claim, Reconciled, Settlement


class Confused(Exception):
    """The server shows lists that no sequence of this worker's trips can explain; whoever recovers it sorts them out."""


@dataclass(slots=True)
class Account:
    """`number`: last trip number used. `applied`: last one known to be carried out. `home`: the queue of all it
    holds. `done`: finished, not settled, oldest first. `held`: claimed, not started, in running order. `unanswered`:
    a trip without a reply, 0 if none."""

    home: str
    number: int = 0
    applied: int = 0
    done: list[Settlement] = field(default_factory=list)
    held: deque[bytes] = field(default_factory=deque)
    started: int = 0
    unanswered: int = 0

    def depart(self) -> int:
        """A new trip is about to leave; its number."""
        self.number += 1
        self.unanswered = self.number
        return self.number

    def refused(self) -> None:
        """The server answered that nothing of the trip was done."""
        self.unanswered = 0

    def arrive(self, claim: Claim) -> None:
        """The trip was answered: what was finished is settled, what was kept is still ours, what was claimed is now."""
        self.applied, self.unanswered, self.started = self.number, 0, 0
        self.done.clear()
        held, length, jobs = self.held, claim.length, claim.jobs
        while len(held) > length:  # handed back: the newest
            held.pop()
        if jobs:
            self.home = claim.queue
            held.extend(jobs)

    def begin(self) -> bytes:
        """The next held job is started."""
        self.started += 1
        return self.held.popleft()

    def bar(self) -> int:
        """A number for a reconcile: every trip up to it is refused from then on."""
        self.number += 1
        return self.number

    def reconcile(self, found: Reconciled) -> int:
        """Take over what the server says after a lost reply; returns how many settlements are lost. Raises Confused.

        A server that knows less than it once confirmed has lost writes (a failover): what was finished is unknown to
        it and waits in its queue again; what it still shows as ours was finished once and is run again, which
        at-least-once allows and losing it would not.
        """
        lost = 0
        if self.done and found.owe is not None and self.home not in found.lists:
            found.owe(self.home, tuple(self.done), self.unanswered, self.applied)
            self.done.clear()
        apart = found.owe is not None
        applied = found.trips.get(self.home, found.applied) if apart else found.applied
        if not apart and self.applied < applied != self.unanswered:
            raise Confused(f"trip {applied} was carried out, which was none that could be")
        if applied < self.applied:
            lost = len(self.done)
            self.done.clear()
        elif self.unanswered and applied >= self.unanswered:
            self.done.clear()
        holding = [queue for queue, elements in found.lists.items() if elements]
        if apart:
            # Whatever another list holds comes from a claim nobody has seen: the next trip hands it back.
            holding = [self.home] if self.home in holding else [] if self.done else holding[:1]
        if len(holding) > 1:
            raise Confused(f"jobs of {len(holding)} queues in the processing lists of one worker: {', '.join(holding)}")
        if holding and self.done and holding[0] != self.home:
            raise Confused(f"finished jobs of {self.home}, but the processing list holds jobs of {holding[0]}")
        self.unanswered, self.started = 0, len(self.done)
        self.held.clear()
        if holding:
            self.home = holding[0]
            self.held.extend(found.lists[self.home][len(self.done) :])
        self.applied = found.trips.get(self.home, found.applied)
        return lost

    @property
    def empty(self) -> bool:
        """Nothing is held, finished or in doubt."""
        return not (self.done or self.held or self.unanswered)
