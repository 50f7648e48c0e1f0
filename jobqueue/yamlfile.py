"""A YAML file as checked settings: all faults at once, each with its place, what was found, what was expected.

`read` turns text into any frozen Struct, guided by the Struct's own annotations; `supervisor.configfile` uses it for the
whole file. `load_producer` is for programs that only enqueue: it reads `redis` and `queues` of the same file and leaves
the other sections to the supervisor.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec
from msgspec import inspect as shape

from jobqueue import address, units
from jobqueue.settings import EVERY_QUEUE, QueueSettings, RedisSettings
from jobqueue.yamltree import ConfigError, Fault, Value, parse

__all__ = [
    "ConfigError",
    "Document",
    "Fault",
    "Producer",
    "load_producer",
    "open_document",
    "read_redis",
    "read_queues",
]

S = TypeVar("S", bound=msgspec.Struct)
Hook = Callable[["Document", Value], dict[str, Any]]
"""Reads a field whose spelling in the file is not its type; returns the fields to set."""

_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


class _Refused(Exception):
    """Internal: this value could not be used; its fault is recorded."""


@dataclass(slots=True)
class Document:
    """One file being read: its tree and the faults found so far."""

    file: str
    root: Value
    faults: list[Fault]
    hooks: Mapping[tuple[type, str], Hook] = field(default_factory=dict)

    def fault(self, where: Value, message: str) -> None:
        self.faults.append(Fault(where.line, where.column, where.path, message, self.file))

    def refuse(self, where: Value, expected: str, *, secret: bool = False) -> NoReturn:
        found = "a value (hidden)" if secret and where.kind not in ("map", "seq", "null") else where.shown
        self.fault(where, f"found {found}, expected {expected}")
        raise _Refused

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
                self.fault(value, f"found {_kind(value)}, expected a mapping with {_some_of(_fields(type_))}")
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
            except _Refused:
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
        """`value` as described by `type_`. Raises _Refused after recording the fault."""
        meta = meta or {}
        if value.kind == "bad":
            raise _Refused
        match type_:
            case shape.Metadata():
                return self.convert(value, type_.type, old, meta | (type_.extra or {}))
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
            except _Refused:
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


class Producer(NamedTuple):
    """What a program that only enqueues needs from the file."""

    redis: RedisSettings
    queues: dict[str, QueueSettings]
    """May hold the entry `*`: look names up with `jobqueue.settings.settings_of`."""
    handlers: tuple[str, ...]


def open_document(
    path: str, environ: Mapping[str, str], hooks: Mapping[tuple[type, str], Hook] | None = None
) -> Document:
    """Read the file at `path` into a tree. Raises ConfigError if there is none, or it is not YAML, or not a mapping."""
    faults: list[Fault] = []
    try:
        with open(path, "rb") as stream:
            text = stream.read().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Fault(0, 0, "", f"cannot be read: {error.strerror or error}", path)]) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise ConfigError([Fault(line, column, "", "not UTF-8 text; save the file as UTF-8", path)]) from error
    root = parse(text, path, environ, faults)
    if root is None:
        raise ConfigError(faults)
    if root.kind != "map":
        faults.append(
            Fault(root.line, root.column, "", f"found {_kind(root)}, expected a mapping: redis, pools, …", path)
        )
        raise ConfigError(faults)
    return Document(path, root, faults, hooks or {})


def read_redis(document: Document, environ: Mapping[str, str], option: str | None = None) -> RedisSettings:
    """The section `redis`, with `--addr` or the environment in place of its url."""
    redis = document.section("redis", RedisSettings)
    section = document.root.entries.get("redis") or document.root
    written = section.entries.get("url")
    for source, given in (("--addr", option), *((name, environ.get(name)) for name in ("JQ_REDIS_ADDR", "REDIS_URL"))):
        if given:
            return msgspec.structs.replace(redis, url=_checked_url(document, Value(source, 0, 0, "env"), given))
    if written is not None and written.kind in ("str", "env"):
        return msgspec.structs.replace(redis, url=_checked_url(document, written, written.text))
    return redis


def read_queues(document: Document) -> dict[str, QueueSettings]:
    """The section `queues`: every entry completed from the entry `*`, which stays in the result."""
    section = document.root.entries.get("queues")
    if section is None or section.kind in ("null", "bad"):
        return {}
    if section.kind != "map":
        document.fault(section, f"found {_kind(section)}, expected a mapping from queue names to settings")
        return {}
    star = section.entries.get(EVERY_QUEUE)
    base = document.struct(star, QueueSettings) if star else QueueSettings()
    queues = {EVERY_QUEUE: base} if star else {}
    for name, value in section.entries.items():
        if name != EVERY_QUEUE:
            queues[name] = document.struct(value, QueueSettings, base)
    _check_queues(document, section, queues)
    return queues


def queue_name_fault(name: str) -> str | None:
    """What is wrong with a queue's name or a foreign queue's key, or None."""
    if not name.strip():
        return "a queue's name must not be empty"
    if any(c in "{}" for c in name):
        return "braces are not allowed: they would change where a Cluster keeps the queue's keys"
    if any(c.isspace() or not c.isprintable() for c in name):
        return "white space and control characters are not allowed"
    return None


def load_producer(path: str, environ: Mapping[str, str]) -> Producer:
    """Redis, queues and handler modules from the file at `path`; other sections are not looked at.

    Raises ConfigError with every fault of these sections.
    """
    document = open_document(path, environ)
    # A variable that only the supervisor needs (its token, say) may be missing where jobs are enqueued.
    document.faults[:] = [
        f for f in document.faults if f.path.partition(".")[0].partition("[")[0] in ("redis", "queues", "")
    ]
    redis, queues = read_redis(document, environ), read_queues(document)
    handlers = document.root.entries.get("handlers")
    names = tuple(item.text for item in handlers.items if item.kind in ("str", "env")) if handlers else ()
    document.finish()
    return Producer(redis, queues, names)


def suggestion(name: str, names: Iterable[str]) -> str:
    """`; did you mean …?` if one of `names` is near."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _check_queues(document: Document, section: Value, queues: Mapping[str, QueueSettings]) -> None:
    owners: dict[str, str] = {name: name for name in queues if name != EVERY_QUEUE}
    for name, settings in queues.items():
        value = section.entries[name]
        if name != EVERY_QUEUE and (wrong := queue_name_fault(name)):
            document.fault(value, f"found {name!r}; {wrong}")
        if (key := settings.key) is not None:
            place = value.entries.get("key", value)
            if name == EVERY_QUEUE:
                document.fault(place, "two queues cannot share a key; give each its own")
            elif wrong := queue_name_fault(key):
                document.fault(place, f"found {key!r}; {wrong}")
            elif owners.setdefault(key, name) != name:
                document.fault(
                    place, f"the key {key!r} belongs to queue {owners[key]!r}; two queues cannot share a key"
                )
        if settings.codec == "raw" and settings.handler is None:
            document.fault(
                value, "codec raw needs a handler: the type of job that gets every element, as in handler: notify"
            )
        elif settings.handler is not None and settings.codec != "raw":
            document.fault(
                value.entries.get("handler", value), "a handler is only for codec: raw; JSON jobs name their own type"
            )
        if settings.backoff.max < settings.backoff.base:
            document.fault(value.entries.get("backoff", value), "backoff.max is below backoff.base")


def _checked_url(document: Document, where: Value, url: str) -> str:
    url = address.complete(url)
    try:
        address.parse(url)
    except ValueError as error:
        message = f"found {address.masked(url)!r}, {error}"
        file = document.file if where.line else "environment" if where.path.isupper() else "command line"
        document.faults.append(Fault(where.line, where.column, where.path, message, file))
    return url


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


def _kind(value: Value) -> str:
    """What sort of value this is, without showing it: where a mapping is expected, text may well be a secret."""
    return {"str": "text", "env": "text", "int": "a number", "float": "a number", "bool": "a yes or no"}.get(
        value.kind, value.shown
    )


def _some_of(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
