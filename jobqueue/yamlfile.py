"""The sections of the configuration file that the library itself needs: `redis` and `queues`.

Every fault is found at once and says where it is, what was found and what was expected. `supervisor.configfile` builds the
whole file on this; `load_producer` is for programs that only enqueue, and leaves the other sections to the supervisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from jobqueue import address
from jobqueue.settings import EVERY_QUEUE, QueueSettings, RedisSettings
from jobqueue.yamlschema import Document, Hook, kind
from jobqueue.yamltree import ConfigError, Fault, Value, parse

__all__ = [
    "ConfigError",
    "Document",
    "Fault",
    "Producer",
    "load_producer",
    "open_document",
    "read_queues",
    "read_redis",
]


class Producer(NamedTuple):
    """What a program that only enqueues needs from the file."""

    redis: RedisSettings
    queues: dict[str, QueueSettings]
    """May hold the entry `*`: look names up with `jobqueue.settings.settings_of`."""
    handlers: tuple[str, ...]


def open_document(
    path: str, environ: Mapping[str, str], hooks: Mapping[tuple[Any, str], Hook] | None = None
) -> Document:
    """Read the file at `path` into a tree. Raises ConfigError if there is none, or it is not YAML, or not a mapping."""
    faults: list[Fault] = []
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
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
            Fault(root.line, root.column, "", f"found {kind(root)}, expected a mapping: redis, pools, …", path)
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
        document.fault(section, f"found {kind(section)}, expected a mapping from queue names to settings")
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
