"""What becomes of the jobs a dead worker held: a pure decision from its list, its scoreboard row and the cause of its death.

Not the writing (`StewardPort.recover`) and not the noticing (`supervisor.roles.steward`, the only caller). A crash goes through the very
same retry policy as a failed run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobqueue import codec
from jobqueue.handlers import TypePolicy
from jobqueue.job import Envelope
from jobqueue.outcome import Aborted, Crashed, Fault, Outcome, TimedOut
from jobqueue.port import Settlement
from jobqueue.retry import decide, policy_for
from jobqueue.settings import QueueSettings
from jobqueue.settlement import dispose

ATTEMPTS = {
    "hard_limit": Fault("HardLimit", "it ran past its hard time limit and its process was killed"),
    "memory": Fault("MemoryLimit", "its process used more memory than allowed and was killed"),
    "oom": Fault("OutOfMemory", "the kernel killed its process for want of memory"),
}
"""Causes that use up an attempt of the running job, as a failed run does."""


@dataclass(frozen=True, slots=True)
class Told:
    """One death as the master tells it. `row`: the scoreboard row as it was; None if nothing is known. `at`: monotonic seconds."""

    seq: int
    worker: str
    cause: str
    detail: str
    row: Mapping[str, Any] | None
    at: float
    last: str = ""  # what the process said last (`supervisor.lastwords`)


def running_at(told: Told, queue: str, applied: int, held: int) -> int | None:
    """Which entry (0 = oldest) of the worker's list of `queue` was running; None if none was, or the row speaks of
    another trip.

    A worker that crashed with jobs in hand and none begun died of the first: its bytes may have killed the decoder."""
    row = told.row
    if row is None or row["queue"] != queue or row["trip"] != applied:
        return None
    if not row["start_ns"]:
        return 0 if told.cause == "crashed" and not row["started"] and held else None
    position = int(row["started"]) - 1
    return position if 0 <= position < held else None


def outcome_of(told: Told) -> Outcome:
    """How the running job ended."""
    if told.cause in ATTEMPTS:
        return TimedOut(replace(ATTEMPTS[told.cause], traceback=told.last))
    if told.cause == "crashed":
        return Crashed(Fault("WorkerDied", told.detail or "its process died", told.last))
    return Aborted()


def settlements(
    told: Told,
    queue: str,
    applied: int,
    elements: Sequence[bytes],
    *,
    settings: QueueSettings,
    policies: Mapping[str, TypePolicy],
    now_ms: int,
    random: Callable[[], float],
) -> list[Settlement]:
    """One settlement for each element, oldest first: the running one by the cause of death, all others back to the front unblamed."""
    raw_type = settings.handler if settings.codec == "raw" else None
    guilty = running_at(told, queue, applied, len(elements))
    answer = []
    for i, element in enumerate(elements):
        envelope = _envelope(element, raw_type)
        decision = decide(
            outcome_of(told) if i == guilty else Aborted(),
            attempt=envelope.attempt,
            crashes=envelope.crashes,
            policy=policy_for(envelope.max_attempts, policies.get(envelope.type), settings),
            rnd=random(),
        )
        new_id = envelope.id or codec.new_id()
        answer.append(dispose(decision, element, envelope, raw_type=raw_type, now_ms=now_ms, new_id=new_id))
    return answer


def _envelope(element: bytes, raw_type: str | None) -> Envelope:
    try:
        return codec.decode(element, raw_type=raw_type)
    except codec.Malformed as malformed:
        return malformed.envelope
