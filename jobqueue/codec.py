"""Bytes in Redis to envelopes and back; new bytes for a job whose bookkeeping changes.

Not here: what the payload means (`jobqueue.arguments`) and what becomes of a job (`jobqueue.retry`,
`jobqueue.settlement`). Called by producers, workers, the steward and operator tools. Format: docs/wire-format.md. In
short: an element is the envelope as one JSON object; an element of a raw queue is opaque. Opaque or undecodable bytes
that need bookkeeping are *wrapped*:

    MAGIC (4 bytes, the first not printable) · length of the envelope (4, big-endian) · envelope as JSON · the very
    bytes

Payload bytes and fields unknown to this version survive every rewrite unchanged.
"""

from __future__ import annotations

import binascii
import os
import time
from _random import Random
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from jobqueue.errors import InvalidJob, JobQueueError
from jobqueue.job import VERSION, Envelope

MAGIC = b"\x00jq1"
_HEAD = len(MAGIC) + 4
# ValueError covers msgspec's errors and bad UTF-8; the others come from absurd nesting and numbers.
_UNDECODABLE = (ValueError, RecursionError, OverflowError)


class Malformed(JobQueueError):
    """Bytes that are no job. `envelope`: their bookkeeping if they were wrapped, else one with an empty type."""

    def __init__(self, reason: str, envelope: Envelope | None = None) -> None:
        self.reason = reason
        self.envelope = envelope if envelope is not None else Envelope(type="")
        super().__init__(
            f"not a job: {reason}. A job is a JSON object with at least a string 'type'; see docs/wire-format.md"
        )


class _Probe(msgspec.Struct):
    """What even an envelope of the future is expected to have."""

    v: int
    type: str = ""
    id: str = ""
    unique: str = ""


_envelope = msgspec.json.Decoder(Envelope).decode
_probe = msgspec.json.Decoder(_Probe).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_DEFAULTS = {
    field.name: field.default for field in msgspec.structs.fields(Envelope) if field.default is not msgspec.NODEFAULT
} | {"headers": {}}
_NAMES = frozenset(Envelope.__struct_fields__)


def decode(element: bytes, *, raw_type: str | None = None) -> Envelope:
    """The envelope of `element`. `raw_type`: the queue is raw and this handler type gets its elements; a bare one has
    no id then.

    Raises Malformed, and nothing else, for bytes that are no job. Check `newer` before using the result.
    """
    if raw_type is None:
        try:
            return _envelope(element)
        except _UNDECODABLE as error:
            return _second_look(element, error)
    if (parts := _unwrap(element)) is None:
        return Envelope(type=raw_type)
    parts.envelope.type = raw_type  # the settings decide who handles a raw queue: today's settings
    return parts.envelope


def newer(envelope: Envelope) -> bool:
    """Whether a later version of the library made it: put it off until this process is upgraded, do not run or bury it."""
    return envelope.v > VERSION


def body(element: bytes, envelope_raw: bool = True) -> bytes:
    """The opaque bytes of a raw queue's element, wrapped or not. `envelope_raw` False (a JSON queue): the element as it
    is.
    """
    if envelope_raw and (parts := _unwrap(element)) is not None:
        return parts.body
    return element


def encode(envelope: Envelope, body: bytes | None = None) -> bytes:
    """The element of a new job; with `body`, the wrapped form for a raw queue. Raises InvalidJob for text that is not
    Unicode.
    """
    try:
        head = _encode(envelope)
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise InvalidJob(
            f"job of type {envelope.type!r} cannot be written as JSON: {error}", "Use valid Unicode text"
        ) from error
    return head if body is None else _wrap(head, body)


def rewrite(element: bytes, *, raw_type: str | None, now_ms: int, new_id: str, **changes: Any) -> bytes:
    """`element` with some envelope fields changed, all other fields and the payload byte for byte.

    Raw and undecodable bytes get wrapped. The result always has an id: `new_id` if there was none, and then
    `enqueued_at` is `now_ms` unless the producer said. A field changed to its default is left out.
    """
    if not _NAMES.issuperset(changes):
        raise TypeError(f"no fields of an envelope: {sorted(set(changes) - _NAMES)}")
    fields, opaque = _take_apart(element, raw_type)
    for name, value in changes.items():
        if name in _DEFAULTS and value == _DEFAULTS[name]:
            fields.pop(name, None)
        else:
            fields[name] = value
    if _text(fields.get("id")) in (b"", b'""'):
        fields["id"] = new_id
        fields.setdefault("enqueued_at", now_ms)
    head = _encode(fields)
    return head if opaque is None else _wrap(head, opaque)


def with_payload(element: bytes, payload: bytes, *, raw_type: str | None) -> bytes:
    """`element` with another payload, all else as it was: JSON text, or the bytes of a raw queue. For an element of a JSON queue that could
    not be read, `payload` replaces all of what is unreadable.

    Raises InvalidJob if it is not JSON where it has to be.
    """
    fields, opaque = _take_apart(element, raw_type)
    if opaque is not None:
        return _wrap(_encode(fields), payload)
    try:
        msgspec.json.decode(payload)
    except _UNDECODABLE as error:
        raise InvalidJob(f"the payload is not JSON: {error}", "Correct it, nothing has been changed") from None
    return _encode(fields | {"payload": msgspec.Raw(payload)})


def new_id() -> str:
    """22 characters of [-0-9A-Z_a-z], URL-safe, never starting with '-'; ids made later sort later (by 1/16 ms).

    48 bits of time and 80 random ones. A forked child gets random numbers of its own.
    """
    number = ((time.time_ns() // 62_500) << 80) | _random_bits(80)
    return binascii.b2a_base64(number.to_bytes(16, "big"), newline=False)[:22].translate(_SORTED).decode("ascii")


_SORTED = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
)


_random_bits: Callable[[int], int]


def _seed() -> None:
    global _random_bits
    _random_bits = Random(int.from_bytes(os.urandom(32), "big")).getrandbits


_seed()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_seed)


# ---------------------------------------------------------------- the rare cases


class _Wrapped(NamedTuple):
    envelope: Envelope
    head: bytes
    body: bytes


def _unwrap(element: bytes) -> _Wrapped | None:
    """The parts of a wrapped element, None for any other bytes."""
    if not element.startswith(MAGIC) or len(element) < _HEAD:
        return None
    end = _HEAD + int.from_bytes(element[len(MAGIC) : _HEAD], "big")
    head = element[_HEAD:end]
    try:
        return _Wrapped(_read(head), head, element[end:])
    except Malformed:
        return None


def _read(text: bytes) -> Envelope:
    try:
        return _envelope(text)
    except _UNDECODABLE as error:
        return _from_the_future(text, error)


def _second_look(element: bytes, error: Exception) -> Envelope:
    """What a JSON queue may hold beside plain envelopes: newer ones, and bytes that were wrapped when they could not be
    read.
    """
    parts = _unwrap(element)
    if parts is None:
        return _from_the_future(element, error)
    outer = parts.envelope
    if newer(outer):
        return outer
    try:
        envelope = _read(parts.body)
    except Malformed as inner:
        raise Malformed(inner.reason, outer) from None
    # Readable after all (its queue was raw once): what happened to it since is told by the wrapper.
    envelope.id = outer.id or envelope.id
    envelope.attempt, envelope.crashes, envelope.error = outer.attempt, outer.crashes, outer.error
    return envelope


def _from_the_future(text: bytes, error: Exception) -> Envelope:
    try:
        probe = _probe(text)
    except _UNDECODABLE:
        probe = None
    if probe is None or probe.v <= VERSION:
        raise Malformed("nested too deeply" if isinstance(error, RecursionError) else str(error)) from None
    return Envelope(type=probe.type, id=probe.id, unique=probe.unique, v=probe.v)


def _wrap(head: bytes, opaque: bytes) -> bytes:
    return MAGIC + len(head).to_bytes(4, "big") + head + opaque


def _take_apart(element: bytes, raw_type: str | None) -> tuple[dict[str, Any], bytes | None]:
    """Envelope fields, each still JSON, and the opaque bytes to wrap (None: a plain JSON element)."""
    if (parts := _unwrap(element)) is not None:
        return dict(_fields(parts.head)), parts.body
    if raw_type is not None:
        return {"type": raw_type}, element
    try:
        _read(element)
        return dict(_fields(element)), None
    except (Malformed, *_UNDECODABLE):
        return {"type": ""}, element


def _text(value: Any) -> bytes:
    """The JSON text of a field, whether it was changed or not."""
    if value is None:
        return b""
    return bytes(value) if isinstance(value, msgspec.Raw) else _encode(value)
