"""The section `cron` of the configuration file: jobs by the clock.

Like `jobqueue.yamlfile`, on which it builds: every fault at once, each with its place. Called by `supervisor.configfile` for
the whole file, and through `load_entries` by `jqctl cron`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from jobqueue import cron
from jobqueue.cronjob import job_of, queue_of
from jobqueue.errors import InvalidJob
from jobqueue.settings import CronEntry, QueueSettings
from jobqueue.yamlfile import open_document, queue_name_fault, read_queues
from jobqueue.yamlschema import Document, Hook, kind
from jobqueue.yamltree import Value

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")
_INT64 = 2**63
_FIELDS = 'minute hour day month weekday, as in "0 3 * * *" (with seconds before them, if there are six)'


def read_cron(document: Document, queues: Mapping[str, QueueSettings]) -> dict[str, CronEntry]:
    """The entries by name, each with its queue filled in."""
    section = document.root.entries.get("cron")
    if section is None or section.kind in ("null", "bad"):
        return {}
    if section.kind != "map":
        document.fault(section, f"found {kind(section)}, expected a mapping from names to entries")
        return {}
    document.hooks = {**document.hooks, **_HOOKS}
    return {name: _entry(document, name, value, queues) for name, value in section.entries.items()}


def load_entries(path: str, environ: Mapping[str, str]) -> dict[str, CronEntry]:
    """The entries of the file at `path`; of the rest only queues are looked at. Raises ConfigError."""
    document = open_document(path, environ)
    mine = ("cron", "queues", "")
    document.faults[:] = [f for f in document.faults if f.path.partition(".")[0].partition("[")[0] in mine]
    entries = read_cron(document, read_queues(document))
    document.finish()
    return entries


def _entry(document: Document, name: str, value: Value, queues: Mapping[str, QueueSettings]) -> CronEntry:
    before = len(document.faults)
    if not _NAME.fullmatch(name):
        document.fault(value, f"found {name!r}, expected a name of letters, digits and . : _ -")
    entry = document.struct(value, CronEntry)
    entry = msgspec.structs.replace(entry, queue=queue_of(entry, queues))
    assert entry.queue is not None
    if wrong := queue_name_fault(entry.queue):
        document.fault(value.entries.get("queue", value), f"found {entry.queue!r}; {wrong}")
    if len(document.faults) == before:
        try:
            job_of(name, entry, queues, 0, 0)
        except InvalidJob as error:
            document.fault(value, str(error))
    return entry


def _schedule(document: Document, value: Value) -> dict[str, Any]:
    if value.kind not in ("str", "env"):
        document.refuse(value, _FIELDS)
    try:
        return {"schedule": cron.expression(value.text)}
    except cron.BadSchedule as error:
        document.refuse(value, f"{_FIELDS}; {error}")


def _timezone(document: Document, value: Value) -> dict[str, Any]:
    if value.kind not in ("str", "env"):
        document.refuse(value, "the name of a time zone, as in Europe/Berlin")
    try:
        cron.zone(value.text)
    except cron.UnknownZone:
        document.refuse(value, f"the name of a time zone, as in Europe/Berlin{_nearest(value.text)}")
    return {"timezone": value.text}


def _nearest(name: str) -> str:
    import difflib  # only a file with a fault pays for it
    from zoneinfo import available_timezones

    names = available_timezones()
    if not names:
        return "; this machine knows none: install its package tzdata"
    lower = {one.lower(): one for one in names}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


def _payload(document: Document, value: Value) -> dict[str, Any]:
    return {"payload": msgspec.json.encode(_data(document, value)).decode()}


def _data(document: Document, value: Value) -> Any:
    """What stands there as JSON would have it; a fault is recorded and reading goes on."""
    match value.kind:
        case "map":
            return {name: _data(document, one) for name, one in value.entries.items()}
        case "seq":
            return [_data(document, one) for one in value.items]
        case "str" | "env":
            return value.text
        case "bool" if value.text.lower() in ("true", "false"):
            return value.text.lower() == "true"
        case "int" | "float" if (number := _number(value)) is not None:
            return number
        case "null" | "bad":
            return None
    expected = "text in quotes, a number as JSON has them, true, false, null, a list or a mapping"
    document.fault(value, f"found {value.shown}, expected {expected}")
    return None


def _number(value: Value) -> int | float | None:
    """Only what cannot be read in two ways: YAML takes 010 for eight and 1:30 for ninety."""
    if value.kind == "int" and re.fullmatch(r"-?(0|[1-9][0-9]*)", value.text):
        whole = int(value.text)
        return whole if -_INT64 <= whole < _INT64 else None
    if value.kind == "float" and re.fullmatch(r"-?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?", value.text):
        number = float(value.text)
        return number if math.isfinite(number) else None
    return None


_HOOKS: dict[tuple[Any, str], Hook] = {
    (CronEntry, "schedule"): _schedule,
    (CronEntry, "timezone"): _timezone,
    (CronEntry, "payload"): _payload,
}
