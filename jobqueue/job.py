"""What a job is: the envelope as it travels, and the view of it that a handler may ask for. No I/O.

`jobqueue.codec` turns bytes into envelopes and back. Source of the field list: docs/wire-format.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

VERSION = 1  # of the envelope; a newer one is put off, not burned

# Bounded, so that adding one never leaves what JSON readers (and msgspec) can represent.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class ErrorInfo(msgspec.Struct, omit_defaults=True, frozen=True):
    """The last thing that went wrong with a job. `at` in ms since 1970 (server clock); `causes`: one line a crash, oldest first."""

    kind: str = ""
    message: str = ""
    traceback: str = ""
    at: Count = 0
    causes: tuple[str, ...] = ()


class Envelope(msgspec.Struct, omit_defaults=True):
    """One job as JSON. Only `type` is required of a producer; fields at their default are not written.

    `attempt`: attempts used up so far (0 on the first run). `crashes`: processes it has killed. Times in ms since 1970 (server
    clock). `time_limit` in seconds. `payload`: raw JSON, decoded once, straight into the handler's arguments.
    """

    type: str
    id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    queue: str = ""
    attempt: Count = 0
    crashes: Count = 0
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] | None = None
    enqueued_at: Count = 0
    expires_at: Count = 0
    time_limit: Annotated[float, msgspec.Meta(gt=0)] | None = None
    unique: str = ""
    headers: dict[str, str] = {}
    error: ErrorInfo | None = None
    v: int = 1  # what it means to be left out, also when VERSION has grown


@dataclass(frozen=True, slots=True)
class Job:
    """What a handler receives for a parameter annotated `Job`.

    `attempt` counts from 1. `deadline` is the soft limit on time.monotonic()'s clock, None without one. `payload` is the JSON
    text, or the bytes of a raw queue.
    """

    id: str
    type: str
    queue: str
    attempt: int
    max_attempts: int
    crashes: int
    enqueued_at: int
    deadline: float | None
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)
