"""From what a program asks for (a type, a payload, options) to a `NewJob`: checked, with its times worked out. Pure but for new ids.

Not here: sending (`jobqueue.redis.producing`) and the format itself (`jobqueue.codec`). Called by `jobqueue.client`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec

from jobqueue import codec, units
from jobqueue.errors import InvalidJob
from jobqueue.job import VERSION, Envelope
from jobqueue.port import NewJob
from jobqueue.settings import QueueSettings

Span: TypeAlias = float | str | timedelta
"""Seconds, `"10s"`, or a timedelta."""
Moment: TypeAlias = float | str | datetime
"""Seconds since 1970, ISO 8601 text, or a datetime."""

MAX_NAME = 512
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
encode = msgspec.json.Encoder().encode
_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said of one job; names and meanings as in `JobQueue.enqueue`."""

    delay: Span | None = None
    at: Moment | None = None
    unique: str | None = None
    max_attempts: int | None = None
    time_limit: Span | None = None
    headers: Mapping[str, str] | None = None
    id: str | None = None
    expires: Span | datetime | None = None

    @property
    def plain(self) -> bool:
        """Nothing at all is said, so the job may travel in bulk."""
        return self == PLAIN


PLAIN = Options()


def draft(
    type_: str,
    payload: Any,
    queue: str,
    settings: QueueSettings,
    options: Options,
    now_ms: int,
    new_id: str | None = None,
) -> NewJob:
    """One job, ready to go. `now_ms`: the server's clock. `new_id`: if it has none of its own. Raises InvalidJob."""
    check_type(type_, queue, settings)
    delay_ms = _milliseconds("delay", options.delay) if options.delay is not None else 0
    due_ms = _moment_ms("at", options.at) if options.at is not None else 0
    if delay_ms and due_ms:
        raise InvalidJob("both delay and at are given", "Give one of them")
    envelope = Envelope(
        type=type_,
        id=_name("id", options.id) if options.id is not None else new_id or codec.new_id(),
        max_attempts=_attempts(options.max_attempts),
        enqueued_at=now_ms,
        expires_at=_expiry_ms(options.expires, now_ms),
        time_limit=_limit(options.time_limit),
        unique=_name("unique", options.unique) if options.unique is not None else "",
        headers=_headers(options.headers),
        v=VERSION,
    )
    element, bare = _element(envelope, payload, settings, queue, plain=options.plain)
    return NewJob(
        queue=queue,
        id="" if bare else envelope.id,
        element=element,
        delay_ms=delay_ms,
        due_ms=due_ms,
        unique=envelope.unique,
        deduplicate=options.id is not None,
        max_length=settings.max_length,
    )


def ids() -> Iterator[str]:
    """New ids for many jobs of one moment: each batch of 4,096 shares a random beginning and counts up, so they still sort by age."""
    while True:
        base = codec.new_id()
        head, tail = base[:19], base[21]
        for pair in _PAIRS:
            yield head + pair + tail


def check_type(type_: str, queue: str, settings: QueueSettings) -> None:
    """Raises InvalidJob if a job of this type cannot be in this queue."""
    _name("type", type_)
    if settings.codec == "raw" and settings.handler not in (None, type_):
        raise InvalidJob(
            f"queue {queue!r} is raw and all its elements go to {settings.handler!r}, not to {type_!r}",
            f"Enqueue {settings.handler!r}, or use another queue",
        )


def _element(
    envelope: Envelope, payload: Any, settings: QueueSettings, queue: str, *, plain: bool
) -> tuple[bytes, bool]:
    """The bytes, and whether they are the payload and nothing else."""
    if settings.codec == "raw":
        body = _raw_body(payload, queue)
        # Bytes that begin like our own bookkeeping would be taken for it: wrapped, they are a body like any other.
        bare = plain and not body.startswith(codec.MAGIC)
        return (body, True) if bare else (codec.encode(envelope, body), False)
    if payload is not None:
        envelope.payload = payload
    try:
        return encode(envelope), False
    except UNENCODABLE as error:
        raise unencodable(envelope.type, error) from error


def _raw_body(payload: Any, queue: str) -> bytes:
    """The bytes of a raw element. An object of one text is what `some_handler.enqueue(text)` makes of its only argument."""
    if isinstance(payload, Mapping) and len(payload) == 1:
        (payload,) = payload.values()
    if isinstance(payload, str):
        try:
            return payload.encode()
        except UnicodeEncodeError as error:
            raise InvalidJob(f"the payload is not valid Unicode: {error}", "Pass bytes") from error
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise InvalidJob(
        f"queue {queue!r} is raw and takes text or bytes, not {type(payload).__name__}", "Encode it yourself"
    )


def unencodable(type_: str, error: Exception) -> InvalidJob:
    return InvalidJob(
        f"a job of type {type_!r} cannot be written as JSON: {str(error) or type(error).__name__}",
        "Pass what JSON knows, dataclasses, msgspec Structs, dates, UUIDs or Decimals",
    )


def _name(what: str, text: Any) -> str:
    if not isinstance(text, str) or not text:
        raise InvalidJob(f"{what} is {text!r}", "Give a string that is not empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidJob(f"{what} is not valid Unicode: {error}", "Give printable text") from error
    if size > MAX_NAME:
        raise InvalidJob(f"{what} has {size} bytes", f"Give at most {MAX_NAME}: a hash of it would do")
    return text


def _attempts(number: Any) -> int | None:
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise InvalidJob(f"max_attempts is {number!r}", "Give a whole number from 1 on")
    return None if number is None else int(number)


def _headers(headers: Any) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or not all(isinstance(x, str) for pair in headers.items() for x in pair):
        raise InvalidJob(f"headers are {headers!r}", "Give a mapping from strings to strings")
    return dict(headers)


def _seconds(what: str, span: Any) -> float:
    try:
        return span.total_seconds() if isinstance(span, timedelta) else units.duration(span)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJob(f"{what} is {span!r}", f"Give {units.DURATION_EXPECTED}") from None


def _milliseconds(what: str, span: Any) -> int:
    return max(0, math.ceil(_seconds(what, span) * 1000))


def _limit(span: Any) -> float | None:
    if span is None:
        return None
    if (seconds := _seconds("time_limit", span)) <= 0:
        raise InvalidJob(f"time_limit is {span!r}", "Give more than no time at all")
    return seconds


def _moment_ms(what: str, moment: Any) -> int:
    try:
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        if isinstance(moment, datetime):
            moment = moment.timestamp()  # a naive one means local time, as everywhere in Python
        if isinstance(moment, bool) or not 0 < moment < 1e11:
            raise ValueError
        return math.ceil(float(moment) * 1000)
    except (ValueError, TypeError, OverflowError, OSError):
        example = datetime(2030, 1, 31, 12, tzinfo=UTC).isoformat()
        raise InvalidJob(
            f"{what} is {moment!r}", f"Give a datetime, seconds since 1970, or ISO text such as {example}"
        ) from None


def _expiry_ms(expires: Any, now_ms: int) -> int:
    if expires is None:
        return 0
    if isinstance(expires, datetime):
        return _moment_ms("expires", expires)
    return now_ms + max(1, _milliseconds("expires", expires))
