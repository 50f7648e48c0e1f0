"""From a decision to what is written: the `Settlement` with the job's new bytes.

Pure: time and the new id are arguments. Called by workers and the steward with what `jobqueue.retry.decide` said.
"""

from __future__ import annotations

import math
from typing import assert_never

from jobqueue import codec
from jobqueue.job import Envelope, ErrorInfo
from jobqueue.outcome import Ack, Bury, Disposition, Fault, Requeue, Retry
from jobqueue.port import Settlement
from jobqueue.retry import Dead, Decision, Finish, Front, Later

MAX_TRACEBACK = 8 * 1024
MAX_MESSAGE = 2 * 1024
MAX_CAUSE = 500
MAX_CAUSES = 20


def dispose(
    decision: Decision, element: bytes, envelope: Envelope, *, raw_type: str | None, now_ms: int, new_id: str
) -> Settlement:
    """What `settle` or `recover` has to do with a job claimed as `element`.

    `envelope`: as decoded from `element` (for undecodable bytes: `Malformed.envelope`). `new_id` is used if the job has
    none and its bytes change. The unique key goes along always; the port frees it where due (ack and bury; never retry
    or requeue).
    """
    disposition = _disposition(decision, element, envelope, raw_type=raw_type, now_ms=now_ms, new_id=new_id)
    return Settlement(disposition, element, envelope.id, envelope.unique)


def _disposition(
    decision: Decision, element: bytes, envelope: Envelope, *, raw_type: str | None, now_ms: int, new_id: str
) -> Disposition:
    if isinstance(decision, Finish):
        return Ack(decision.counter)
    if isinstance(decision, Front) and decision.fault is None:
        return Requeue()
    rewritten = codec.rewrite(
        element,
        raw_type=raw_type,
        now_ms=now_ms,
        new_id=new_id,
        attempt=decision.attempt,
        crashes=decision.crashes,
        error=error_info(decision.fault, envelope.error, crashed=decision.crashes > envelope.crashes, now_ms=now_ms),
    )
    match decision:
        case Later(seconds):
            # Rounded up: a retry must never come before its time, and 0 would mean "not delayed".
            return Retry(max(1, math.ceil(seconds * 1000)), rewritten)
        case Dead():
            return Bury(rewritten)
        case Front():
            return Requeue(rewritten)
        case _:
            assert_never(decision)


def error_info(fault: Fault | None, before: ErrorInfo | None, *, crashed: bool, now_ms: int) -> ErrorInfo | None:
    """`fault` as it is stored: bounded, valid Unicode; a crash adds a line to the causes recorded `before`."""
    if fault is None:
        return before
    causes = before.causes if before is not None else ()
    if crashed:
        causes = (*causes, bounded(f"{fault.kind}: {fault.message}", MAX_CAUSE))[-MAX_CAUSES:]
    return ErrorInfo(
        kind=bounded(fault.kind, MAX_CAUSE),
        message=bounded(fault.message, MAX_MESSAGE),
        traceback=bounded(fault.traceback, MAX_TRACEBACK, keep_end=True),
        at=max(0, now_ms),
        causes=causes,
    )


def bounded(text: str, size: int, *, keep_end: bool = False) -> str:
    """`text` in at most `size` bytes of UTF-8, cut with an ellipsis; lone surrogates become '?'. A traceback's end says
    the most.
    """
    data = text.encode("utf-8", errors="replace")
    if len(data) <= size:
        return data.decode("utf-8")
    room = size - len("…".encode())
    if keep_end:
        return "…" + data[-room:].decode("utf-8", errors="ignore")
    return data[:room].decode("utf-8", errors="ignore") + "…"
