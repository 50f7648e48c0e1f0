"""Elements: anything may lie in Redis, nothing may be lost in a rewrite."""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue import codec
from jobqueue.codec import MAGIC, Malformed
from jobqueue.errors import InvalidJob
from jobqueue.job import Envelope, ErrorInfo

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [*Envelope.__struct_fields__, "unknown", ""]
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), JSON, max_size=8)


def rewritten(element: bytes, *, raw_type: str | None = None, **changes: Any) -> bytes:
    return codec.rewrite(element, raw_type=raw_type, now_ms=123, new_id="new-id", **changes)


@given(
    st.binary()
    | st.binary().map(lambda tail: MAGIC + tail)
    | OBJECTS.map(lambda fields: json.dumps(fields).encode("utf-8", "surrogatepass"))
    | OBJECTS.map(lambda fields: json.dumps({"type": "t", **fields}).encode()),
    st.none() | st.just("raw"),
)
def test_any_bytes_are_a_job_or_malformed_and_can_be_rewritten(element: bytes, raw_type: str | None) -> None:
    try:
        envelope = codec.decode(element, raw_type=raw_type)
    except Malformed as malformed:
        assert raw_type is None
        envelope = malformed.envelope
    again = rewritten(element, raw_type=raw_type, attempt=7)
    try:
        after = codec.decode(again, raw_type=raw_type)
    except Malformed as malformed:
        after = malformed.envelope
    assert after.id == (envelope.id or "new-id")
    assert after.attempt == 7 or codec.newer(after)
    assert rewritten(again, raw_type=raw_type, attempt=7) == again, "the id is kept from now on"
    if raw_type is not None:
        assert codec.body(again) == codec.body(element)


@pytest.mark.parametrize(
    "element",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"email:welcome"',
        b'{"type":5}',
        b'{"type":"t","id":7}',
        b'{"type":"t","attempt":-1}',
        b'{"type":"t","attempt":1e400}',
        b'{"type":"t","attempt":' + b"9" * 5000 + b"}",
        b'{"type":"t","max_attempts":0}',
        b'{"type":"t","headers":{"a":1}}',
        b'{"type":"\xff"}',
        b'{"type":"\\ud800"}',
        b'{"type":"t"}x',
        b'{"type":"t","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
        MAGIC,
        MAGIC + b"\xff\xff\xff\xff{}",
        MAGIC + b"\x00\x00\x00\x02{}body",
    ],
    ids=lambda element: repr(element[:30]),
)
def test_what_is_no_job_is_malformed_and_says_why(element: bytes) -> None:
    with pytest.raises(Malformed, match="not a job: "):
        codec.decode(element)
    wrapped = rewritten(element, error=ErrorInfo("Malformed", "why"))
    assert codec.body(wrapped) == element
    with pytest.raises(Malformed) as again:
        codec.decode(wrapped)
    assert again.value.envelope.id == "new-id"
    assert again.value.envelope.error == ErrorInfo("Malformed", "why")


def test_only_a_type_is_required_of_a_foreign_producer() -> None:
    assert codec.decode(b' { "type" : "t" } ') == Envelope(type="t")


@given(st.builds(Envelope, type=st.text(), id=st.text(min_size=1), attempt=st.integers(0, 99), unique=st.text()))
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    for raw_type, body in ((None, None), (envelope.type, b"\x00body")):
        element = codec.encode(envelope, body)
        found = codec.decode(element, raw_type=raw_type)
        assert msgspec.structs.replace(found, payload=b"") == msgspec.structs.replace(envelope, payload=b"")
        assert codec.body(element, raw_type is not None) == (body if body is not None else element)


def test_a_rewrite_keeps_the_payload_and_unknown_fields_byte_for_byte() -> None:
    payload = b'{ "a":[ ], "n": 12345678901234567890123, "f":1.50, "u":"\\u00e9" }'
    element = b'{"type":"t","future":{"x":[]}, "payload": ' + payload + b',"id":"i","attempt":1}'
    again = rewritten(element, attempt=2, crashes=1)
    assert payload in again
    assert b'"future":{"x":[]}' in again
    found = codec.decode(again)
    assert (found.id, found.attempt, found.crashes, found.enqueued_at) == ("i", 2, 1, 0)


def test_a_field_changed_to_its_default_is_left_out() -> None:
    assert rewritten(b'{"type":"t","id":"i","attempt":3}', attempt=0) == b'{"type":"t","id":"i"}'


def test_a_job_without_an_id_gets_one_and_its_time() -> None:
    for element in (b'{"type":"t"}', b'{"type":"t","id":""}', b'{"type":"t","id": "" }'):
        found = codec.decode(rewritten(element))
        assert (found.id, found.enqueued_at) == ("new-id", 123)


def test_there_are_no_other_fields() -> None:
    with pytest.raises(TypeError, match="attmept"):
        rewritten(b'{"type":"t"}', attmept=1)


def test_a_raw_element_is_opaque_whatever_it_looks_like() -> None:
    for body in (b'{"type":"other"}', b"", b"\xff\xfe", MAGIC + b"rest"):
        envelope = codec.decode(body, raw_type="notify")
        assert (envelope.type, envelope.id) == ("notify", "")
        wrapped = rewritten(body, raw_type="notify", attempt=1)
        assert codec.body(wrapped) == body
        assert codec.decode(wrapped, raw_type="notify").attempt == 1


def test_todays_settings_say_who_handles_a_raw_queue() -> None:
    assert codec.decode(rewritten(b"x", raw_type="old"), raw_type="new").type == "new"


def test_a_wrapped_job_that_can_be_read_after_all_keeps_its_history() -> None:
    """Its queue was raw when it failed, and is a JSON queue now."""
    wrapped = rewritten(b'{"type":"t","payload":{"a":1}}', raw_type="raw", attempt=4)
    found = codec.decode(wrapped)
    assert (found.type, bytes(found.payload), found.attempt, found.id) == ("t", b'{"a":1}', 4, "new-id")


def test_an_envelope_of_the_future_is_told_apart_and_survives_a_rewrite() -> None:
    element = b'{"v":2,"type":"t","id":"i","attempt":{"new":"shape"},"payload":{}}'
    found = codec.decode(element)
    assert codec.newer(found)
    assert (found.type, found.id) == ("t", "i")
    assert not codec.newer(codec.decode(b'{"type":"t"}'))
    assert codec.rewrite(element, raw_type=None, now_ms=1, new_id="x", queue="q").startswith(element[:-1])


def test_text_that_is_not_unicode_is_refused_when_encoding() -> None:
    with pytest.raises(InvalidJob):
        codec.encode(Envelope(type="\ud800"))


def test_ids_are_short_safe_different_and_sort_by_age() -> None:
    ids = [codec.new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 22 and i[0] != "-" and i.replace("-", "").replace("_", "").isalnum() for i in ids)
    assert [i[:8] for i in ids] == sorted(i[:8] for i in ids)


def test_forked_children_make_ids_of_their_own() -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        batches = pool.map(_ids, [200] * 4, chunksize=1)
    batches.append(_ids(200))
    every = [i for batch in batches for i in batch]
    assert len(set(every)) == len(every)
    assert len({i[8:] for i in every}) == len(every), "the random parts differ by themselves"


def _ids(n: int) -> list[str]:
    return [codec.new_id() for _ in range(n)]
