"""The filter language: what it means, and that no text can break it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.where import NUMBERS, TEXTS, BadFilter, Condition, Filter, parse

JOB = {
    "type": "email:welcome",
    "id": "a1",
    "queue": "default",
    "error": "TimeoutError: Connection refused, sorry",
    "kind": "TimeoutError",
    "message": "Connection refused, sorry",
    "payload": '{"n": 1}',
    "attempt": 3.0,
    "crashes": 0.0,
    "age": 7200.0,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("type=email:welcome", True),
        ("type = email:welcome", True),
        ("type==email:welcome", True),
        ("type=email", False),
        ("type!=other", True),
        ("type~=WELCOME", True),
        ("type!~welcome", False),
        ("error~='connection refused'", True),
        ('error~="refused, sorry" attempt>=3', True),
        ("error~=refused attempt>3", False),
        ("error~=refused, attempt<4 and age>1h", True),
        ("age>1h age<3h", True),
        ("age>2.5h", False),
        ("attempt!=3", False),
        ("crashes=0", True),
        ("unique=''", True),
        (r"message='it\'s'", False),
        ("payload~='\"n\": 1'", True),
        ("kind=TimeoutError", True),
    ],
)
def test_what_a_filter_means(text: str, holds: bool) -> None:
    assert parse(text).holds(JOB) is holds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("typ=x", "did you mean .type."),
        ("colour=red", "there are type, id"),
        ("type", "expected FIELD"),
        ("=x", "column 1"),
        ("type>a", "is text"),
        ("age~=3", "is a number"),
        ("age>soon", "expected a duration"),
        ("attempt=1.5", "expected a whole number"),
        ("type=a 'b", "column 8"),
        ("type='a'id=b", "expected a space"),
        ("attempt>", "expected a whole number"),
    ],
)
def test_a_bad_filter_says_where_and_what(text: str, words: str) -> None:
    with pytest.raises(BadFilter, match=words):
        parse(text)


@given(st.text())
def test_any_text_is_a_filter_or_a_bad_filter(text: str) -> None:
    try:
        parse(text).holds(JOB)
    except BadFilter as bad:
        assert 1 <= bad.column <= len(text) + 1


@given(st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(["=", "!=", "~=", "!~"]), st.text()), max_size=4))
def test_quoting_carries_every_text(conditions: list[tuple[str, str, str]]) -> None:
    text = " ".join(
        f'{f}{o}"{v}"' for f, o, v in ((f, o, v.replace("\\", "\\\\").replace('"', '\\"')) for f, o, v in conditions)
    )
    assert parse(text) == Filter(tuple(Condition(*c) for c in conditions))


@given(st.sampled_from(NUMBERS), st.integers(0, 10**9), st.integers(0, 10**9))
def test_comparisons_agree_with_numbers(name: str, left: int, right: int) -> None:
    facts = {name: float(left)}
    for sign, expected in (("<", left < right), (">=", left >= right), ("=", left == right), ("!=", left != right)):
        assert parse(f"{name}{sign}{right}").holds(facts) is expected


@pytest.mark.parametrize("text", ["type='" + "\\" * 50_000, "and " * 20_000, "type=a," * 10_000, "," * 100_000 + "'"])
def test_no_text_takes_long(text: str) -> None:
    began = time.monotonic()
    try:
        parse(text)
    except BadFilter:
        pass
    assert time.monotonic() - began < 5
