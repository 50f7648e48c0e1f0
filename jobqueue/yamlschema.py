"""A tree of YAML values as frozen Structs, guided by the Structs' own annotations.

`Document` collects every fault and goes on, so that one run shows them all. It knows no section by name; those are in
`jobqueue.yamlfile` and `supervisor.configfile`, which call it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect as shape

from jobqueue import address, units
from jobqueue.yamltree import ConfigError, Fault, Value

S = TypeVar("S", bound=msgspec.Struct)
Hook = Callable[["Document", Value], dict[str, Any]]
"""Reads a field whose spelling in the file is not its type; returns the fields to set."""

_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


class Refused(Exception):
    """This value cannot be used; its fault is recorded. Never leaves a Document."""


@dataclass(slots=True)
class Document:
    """One file being read: its tree and the faults found so far."""

    file: str
    root: Value
    faults: list[Fault]
    hooks: Mapping[tuple[Any, str], Hook] = field(default_factory=dict)

    def fault(self, where: Value, message: str) -> None:
        self.faults.append(Fault(where.line, where.column, where.path, message, self.file))

    def refuse(self, where: Value, expected: str, *, secret: bool = False) -> NoReturn:
        found = "a value (hidden)" if secret and where.kind not in ("map", "seq", "null") else where.shown
        self.fault(where, f"found {found}, expected {expected}")
        raise Refused

    def finish(self) -> None:
        """Raises ConfigError if anything was wrong."""
        if self.faults:
            raise ConfigError(self.faults)

    def section(self, name: str, type_: type[S], base: S | None = None) -> S:
        """The Struct at the top-level key `name`; its defaults if the key is absent or empty."""
        value = self.root.entries.get(name)
        if value is None:
            return base or type_()
        return self.struct(value, type_, base)

    def struct(self, value: Value, type_: type[S], base: S | None = None) -> S:
        """`value` as `type_`; what is not written comes from `base`. After a fault the result is only good for going on."""
        if value.kind == "null":
            value = Value(value.path, value.line, value.column, "map")
        if value.kind != "map":
            if value.kind != "bad":
                self.fault(value, f"found {kind(value)}, expected a mapping with {_some_of(_fields(type_))}")
            return base if base is not None else _blank(type_, {})
        fields, found = _fields(type_), dict[str, Any]()
        accepted = [name for name, one in fields.items() if not _derived(one)]
        self.known_keys(value, accepted)
        for name in accepted:
            given = value.entries.get(name)
            if given is None:
                if fields[name].required and base is None:
                    self.fault(value, f"{name} is missing")
                continue
            try:
                hook = self.hooks.get((type_, name))
                old = getattr(base, name, None)
                found |= hook(self, given) if hook else {name: self.convert(given, fields[name].type, old)}
            except Refused:
                continue
        return msgspec.structs.replace(base, **found) if base is not None else _blank(type_, found)

    def known_keys(self, value: Value, accepted: Iterable[str]) -> None:
        names = list(accepted)
        for name, (line, column) in value.keys.items():
            if name not in names:
                path = f"{value.path}.{name}" if value.path else name
                message = f"unknown key {address.masked(name)!r}{suggestion(name, names)}"
                self.faults.append(Fault(line, column, address.masked(path), message, self.file))

    def convert(self, value: Value, type_: shape.Type, old: Any = None, meta: Mapping[str, Any] | None = None) -> Any:
        """`value` as described by `type_`. Raises Refused after recording the fault."""
        meta = meta or {}
        if value.kind == "bad":
            raise Refused
        match type_:
            case shape.Metadata():
                return self.convert(value, type_.type, old, {**meta, **(type_.extra or {})})
            case shape.UnionType():
                if value.kind == "null" or (value.kind == "env" and not value.text):
                    return None
                return self.convert(value, next(t for t in type_.types if not isinstance(t, shape.NoneType)), old, meta)
            case shape.StructType():
                return self.struct(value, type_.cls, old)
            case shape.VarTupleType():
                if value.kind != "seq":
                    self.refuse(value, "a list, as in [one, two]")
                return tuple(self._each(value.items, type_.item_type))
            case shape.LiteralType():
                if value.text not in type_.values or value.kind in ("map", "seq"):
                    choices = [str(choice) for choice in type_.values]
                    self.refuse(value, f"{' or '.join(choices)}{suggestion(value.text, choices)}")
                return value.text
            case shape.BoolType():
                return self._bool(value)
            case shape.StrType():
                return self._text(value, type_, meta)
            case shape.IntType() | shape.FloatType():
                return self._number(value, type_, meta.get("unit"))
        raise TypeError(f"{value.path}: settings of type {type_} cannot be read from a file")

    def _each(self, values: Iterable[Value], type_: shape.Type) -> Iterable[Any]:
        for value in values:
            try:
                yield self.convert(value, type_)
            except Refused:
                continue

    def _bool(self, value: Value) -> bool:
        text = value.text.lower()
        if value.kind not in ("bool", "env") or text not in _TRUE | _FALSE:
            self.refuse(value, "true or false")
        return text in _TRUE

    def _text(self, value: Value, type_: shape.StrType, meta: Mapping[str, Any]) -> str:
        if value.kind not in ("str", "env"):
            quotable = value.kind in ("int", "float", "bool")
            self.refuse(
                value, "text" + (", which has to be quoted here" if quotable else ""), secret=bool(meta.get("secret"))
            )
        if type_.min_length and len(value.text) < type_.min_length:
            self.refuse(value, "text that is not empty")
        if type_.pattern and not re.search(type_.pattern, value.text):
            self.refuse(value, meta.get("words", f"text that matches {type_.pattern}"))
        return value.text

    def _number(self, value: Value, type_: shape.IntType | shape.FloatType, unit: str | None) -> float | int:
        expected = {"duration": units.DURATION_EXPECTED, "size": units.SIZE_EXPECTED}.get(unit or "", "")
        expected = expected or ("a whole number" if isinstance(type_, shape.IntType) else "a number")
        if value.kind not in ("int", "float", "env") and not (unit and value.kind == "str"):
            self.refuse(value, expected)
        try:
            number = _parsed(value.text, unit, whole=isinstance(type_, shape.IntType))
        except ValueError:
            self.refuse(value, expected)
        if type_.gt is not None and number <= type_.gt:
            self.refuse(value, f"{expected}, more than {type_.gt}")
        if type_.ge is not None and number < type_.ge:
            self.refuse(value, f"{expected}, at least {type_.ge}")
        if type_.le is not None and number > type_.le:
            self.refuse(value, f"{expected}, at most {type_.le}")
        return number


def suggestion(name: str, names: Iterable[str]) -> str:
    """`; did you mean …?` if one of `names` is near."""
    import difflib  # only a file with a fault pays for it

    near = difflib.get_close_matches(name.lower().replace("-", "_"), list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _parsed(text: str, unit: str | None, *, whole: bool) -> float | int:
    """The number in `text` as YAML would read it, or as a duration or size. Raises ValueError."""
    plain = text.replace("_", "")
    match unit:
        case "duration":
            return units.duration(plain)
        case "size":
            return units.size(plain)
    number = int(plain) if whole else float(plain)
    if not math.isfinite(number):
        raise ValueError
    return number


def _fields(type_: type[msgspec.Struct]) -> dict[str, shape.Field]:
    described = shape.type_info(type_)
    assert isinstance(described, shape.StructType)
    return {one.name: one for one in described.fields}


def _derived(field: shape.Field) -> bool:
    """Whether the field is computed from others and has no key of its own in the file."""
    return isinstance(field.type, shape.Metadata) and bool((field.type.extra or {}).get("derived"))


def _blank(type_: type[S], found: Mapping[str, Any]) -> S:
    """`type_` from `found`, with empty text or tuples for what is missing: a fault is recorded, reading goes on."""
    missing = {
        name: "" if isinstance(one.type, shape.StrType) else ()
        for name, one in _fields(type_).items()
        if one.required and name not in found
    }
    return type_(**missing, **found)


def kind(value: Value) -> str:
    """What sort of value this is, without showing it: where a mapping is expected, text may well be a secret."""
    return {"str": "text", "env": "text", "int": "a number", "float": "a number", "bool": "a yes or no"}.get(
        value.kind, value.shown
    )


def _some_of(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
