"""The little language of `--where`: which jobs are meant. Pure.

    type=email:welcome  error~="connection refused"  age>1h  attempt>=3

Conditions are separated by spaces (or `and`, or commas) and must all hold. `=` and `!=` compare, `~=` and `!~` look for a part, in any
case; `<`, `<=`, `>`, `>=` are for `attempt`, `crashes` and `age`. Values with spaces are quoted. No regular expressions: a filter must
not be able to hang. Called by jqctl and by `jobqueue.redis.browse`.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jobqueue import units
from jobqueue.errors import JobQueueError

TEXTS = ("type", "id", "queue", "error", "kind", "message", "payload", "unique")
NUMBERS = ("attempt", "crashes", "age")
"""`age`: seconds since it died, was due or was enqueued, whichever its list is ordered by."""

Facts = Mapping[str, str | float]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_CONDITION = re.compile(
    r"""([A-Za-z_]+)\s*(~=|!~|!=|<=|>=|==|=|<|>)\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,"']\S*|)""", re.DOTALL
)
_BETWEEN = re.compile(r"(?:\s|,|and(?=\s))*")


class BadFilter(JobQueueError):
    """A filter that cannot be understood; `column` counts from 1."""

    def __init__(self, text: str, column: int, what: str) -> None:
        self.text, self.column, self.what = text, column, what
        super().__init__(f"--where, column {column}: {what}. Example: 'type=email:welcome error~=timeout age>1h'")


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; `value` is text or a number, as the field wants."""

    field: str
    operator: str
    value: str | float

    def holds(self, facts: Facts) -> bool:
        found = facts.get(self.field, "" if self.field in TEXTS else 0.0)
        if isinstance(self.value, float):
            return isinstance(found, int | float) and _COMPARE[self.operator](float(found), self.value)
        text = str(found)
        match self.operator:
            case "=":
                return text == self.value
            case "!=":
                return text != self.value
            case "~=":
                return self.value.casefold() in text.casefold()
            case _:
                return self.value.casefold() not in text.casefold()


@dataclass(frozen=True, slots=True)
class Filter:
    """All of its conditions must hold; without any it holds for everything."""

    conditions: tuple[Condition, ...] = ()

    def holds(self, facts: Facts) -> bool:
        return all(condition.holds(facts) for condition in self.conditions)


def parse(text: str) -> Filter:
    """Raises BadFilter, and nothing else."""
    conditions, at = [], _skip(text, 0)
    while at < len(text):
        match = _CONDITION.match(text, at)
        if match is None:
            raise BadFilter(
                text, at + 1, f"expected FIELD, one of = != ~= !~ < <= > >=, and a value, at {text[at : at + 20]!r}"
            )
        conditions.append(_condition(text, match))
        at = _skip(text, match.end())
        if at == match.end() < len(text):
            raise BadFilter(text, at + 1, "expected a space before the next condition")
    return Filter(tuple(conditions))


def _skip(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return at if match is None else match.end()


def _condition(text: str, match: re.Match[str]) -> Condition:
    name, sign, value = match[1].lower(), match[2], match[3]
    sign = "=" if sign == "==" else sign
    if name not in TEXTS + NUMBERS:
        near = difflib.get_close_matches(name, TEXTS + NUMBERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(TEXTS + NUMBERS)}"
        raise BadFilter(text, match.start(1) + 1, f"no field {match[1]!r}{hint}")
    if value[:1] in ("'", '"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    elif value.endswith(","):
        value = value[:-1]
    if name in NUMBERS:
        return Condition(name, _number_sign(text, match, name, sign), _number(text, match, name, value))
    if sign in ("<", "<=", ">", ">="):
        raise BadFilter(text, match.start(2) + 1, f"{name!r} is text: it can be compared with =, !=, ~= and !~")
    return Condition(name, sign, value)


def _number_sign(text: str, match: re.Match[str], name: str, sign: str) -> str:
    if sign not in _COMPARE:
        raise BadFilter(
            text, match.start(2) + 1, f"{name!r} is a number: it can be compared with =, !=, <, <=, > and >="
        )
    return sign


def _number(text: str, match: re.Match[str], name: str, value: str) -> float:
    try:
        return units.duration(value) if name == "age" else float(int(value))
    except (ValueError, OverflowError):
        wanted = units.DURATION_EXPECTED if name == "age" else "a whole number"
        raise BadFilter(
            text, match.start(3) + 1, f"{value!r:.40} is not what {name!r} can be: expected {wanted}"
        ) from None
