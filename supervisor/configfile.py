"""The configuration file as `Settings`: reads it, applies environment and options, and checks what spans several keys.

Called by the CLI at start and by the master at a reload, both through `supervisor.settings.load`. How YAML becomes data,
and how faults get their places, is in `jobqueue.yamlfile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from jobqueue.settings import EVERY_QUEUE, CronEntry, QueueSettings, RedisSettings
from jobqueue.yamlfile import open_document, queue_name_fault, read_queues, read_redis
from jobqueue.yamlschema import Document, suggestion
from jobqueue.yamltree import Fault, Value
from supervisor import cpus, rows
from supervisor.settings import MAX_PROCESSES, Http, Log, Pool, Settings, Shutdown, host_port

SECTIONS = tuple(Settings.__struct_fields__)
LEVELS = ("debug", "info", "warning", "error")


def load(path: str, *, environ: Mapping[str, str], options: Mapping[str, Any]) -> Settings:
    """See `supervisor.settings.load`, which is the name to call."""
    document = open_document(path, environ, HOOKS)
    document.known_keys(document.root, SECTIONS)
    overrides = _Overrides(document, environ, options)
    redis = read_redis(document, environ, options.get("addr"))
    queues = read_queues(document)
    pools = _pools(document, queues, overrides)
    settings = Settings(
        pools=pools,
        redis=redis,
        handlers=_handlers(document),
        queues=queues,
        cron=_cron(document, queues, pools),
        http=overrides.http(document.section("http", Http)),
        shutdown=document.section("shutdown", Shutdown),
        log=overrides.log(document.section("log", Log)),
        pidfile=_pidfile(document),
    )
    _check_redis(document, redis)
    document.finish()
    return settings


def _pools(document: Document, queues: Mapping[str, QueueSettings], overrides: _Overrides) -> tuple[Pool, ...]:
    section = document.root.entries.get("pools")
    if section is None or section.kind == "null":
        document.fault(section or document.root, "there are no pools; write at least one, with name and queues")
        return ()
    if section.kind != "seq":
        if section.kind != "bad":
            document.fault(section, f"found {section.shown}, expected a list of pools, each with name and queues")
        return ()
    if not section.items:
        document.fault(section, "there are no pools; write at least one, with name and queues")
    pools = [document.struct(item, Pool) for item in section.items]
    names: set[str] = set()
    for item, pool in zip(section.items, pools, strict=True):
        if pool.name and pool.name in names:
            document.fault(item.entries["name"], f"a second pool is called {pool.name!r}; give each its own name")
        names.add(pool.name)
        _check_keys(document, item, pool, queues)
    if pools:
        pools[0] = overrides.concurrency(pools[0])
    total, beside = sum(pool.processes for pool in pools), sum(rows.surge(pool.processes) for pool in pools)
    if total + beside > MAX_PROCESSES:
        need = f"{total} processes, and {beside} more during a reload"
        document.fault(section, f"found {need}; expected at most {MAX_PROCESSES} together")
    return tuple(pools)


def _check_keys(document: Document, item: Value, pool: Pool, queues: Mapping[str, QueueSettings]) -> None:
    """A queue named like another queue's key would share that one's keys in Redis."""
    owners = {settings.key: name for name, settings in queues.items() if settings.key}
    for name in pool.queues:
        if name in owners and owners[name] != name and name not in queues:
            message = f"{name!r} is the Redis key of queue {owners[name]!r}; list that queue's name here instead"
            document.fault(item.entries["queues"], message)


def _cron(document: Document, queues: Mapping[str, QueueSettings], pools: tuple[Pool, ...]) -> dict[str, CronEntry]:
    section = document.root.entries.get("cron")
    if section is None:
        return {}  # who has none need not know how to count time
    from jobqueue.yamlcron import read_cron

    entries = read_cron(document, queues)
    known = {*(name for pool in pools for name in pool.queues), *queues} - {EVERY_QUEUE}
    for name, entry in entries.items():
        if entry.queue and entry.queue not in known and not queue_name_fault(entry.queue):
            value = section.entries[name]
            place = value.entries.get("queue", value)
            near = suggestion(entry.queue, known)
            document.fault(place, f"queue {entry.queue!r} is in no pool and not under queues; name it in either{near}")
    return entries


def _handlers(document: Document) -> tuple[str, ...]:
    section = document.root.entries.get("handlers")
    if section is None or section.kind == "null" or (section.kind == "seq" and not section.items):
        message = "there are no handlers; list the modules, or files ending in .py, that register them"
        document.fault(section or document.root, message)
        return ()
    if section.kind != "seq":
        if section.kind != "bad":
            document.fault(
                section, f"found {section.shown}, expected a list of modules, as in [{section.text or 'my.handlers'}]"
            )
        return ()
    for item in section.items:
        if item.kind not in ("str", "env", "bad"):
            document.fault(item, f"found {item.shown}, expected the name of a module or a file ending in .py")
        elif item.kind != "bad" and not _is_module(item.text):
            document.fault(item, f"found {item.shown}, expected a module, as in my.handlers, or a file ending in .py")
    return tuple(item.text for item in section.items)


def _is_module(text: str) -> bool:
    return text.endswith(".py") or all(part.isidentifier() for part in text.split("."))


def _pidfile(document: Document) -> str | None:
    value = document.root.entries.get("pidfile")
    if value is None or value.kind in ("null", "bad") or (value.kind == "env" and not value.text):
        return None
    if value.kind not in ("str", "env") or not value.text:
        document.fault(value, f"found {value.shown}, expected the path of a file")
    return value.text


def _check_redis(document: Document, redis: RedisSettings) -> None:
    section = document.root.entries.get("redis")
    if redis.maxmemory is not None and section is not None and not redis.url.startswith("embedded:"):
        where = section.entries.get("maxmemory", section)
        document.fault(where, "maxmemory is for the embedded server; set it in the configuration of your Redis")


def _read_processes(document: Document, value: Value) -> dict[str, Any]:
    if value.text == "auto":
        return {"processes": cpus.usable()}
    if not (value.kind in ("int", "env") and value.text.isascii() and value.text.isdigit() and int(value.text) >= 1):
        document.refuse(value, "a number of processes, at least 1, or auto")
    return {"processes": int(value.text)}


def _read_queues(document: Document, value: Value) -> dict[str, Any]:
    """A list is a strict order; a mapping from names to whole numbers is weights."""
    if value.kind not in ("seq", "map"):
        document.refuse(value, f"a list of queues in strict order{_as_list(value)}, or a mapping of weights")
    named = [(item.text, item) for item in value.items] if value.kind == "seq" else list(value.entries.items())
    if not named:
        document.refuse(value, "at least one queue")
    seen: set[str] = set()
    for name, item in named:
        if value.kind == "seq" and item.kind not in ("str", "env", "int", "bad"):
            document.fault(
                item, f"found {item.shown}, expected the name of a queue (in quotes, if it is a word like yes or no)"
            )
        elif wrong := queue_name_fault(name):
            document.fault(item, f"found {name!r}; {wrong}")
        elif name == "*":
            document.fault(item, "a pool lists its queues one by one; * stands for all of them only under queues:")
        elif name in seen:
            document.fault(item, f"queue {name!r} stands here twice; keep one")
        seen.add(name)
    names = tuple(name for name, _ in named)
    if value.kind == "seq":
        return {"queues": names}
    return {"queues": names, "weights": tuple(_weight(document, item) for _, item in named)}


def _weight(document: Document, item: Value) -> int:
    if item.kind in ("int", "env") and item.text.isascii() and item.text.isdigit() and 1 <= int(item.text) <= 1_000_000:
        return int(item.text)
    if item.kind != "bad":
        document.fault(item, f"found {item.shown}, expected a weight: a whole number from 1 to 1000000")
    return 1


def _as_list(value: Value) -> str:
    return f", as in [{value.text}]" if value.kind == "str" and value.text else ""


def _read_listen(document: Document, value: Value) -> dict[str, Any]:
    if value.kind == "null" or (value.kind in ("bool", "env") and value.text.lower() in ("", "off", "false", "no")):
        return {"listen": None}
    if value.kind not in ("str", "env"):
        document.refuse(value, "HOST:PORT in quotes, or off")
    try:
        host_port(value.text)
    except ValueError as error:
        document.refuse(value, str(error).removeprefix("expected "))
    return {"listen": value.text}


HOOKS = {
    (Pool, "processes"): _read_processes,
    (Pool, "queues"): _read_queues,
    (Http, "listen"): _read_listen,
}


class _Overrides:
    """What environment and options say in place of the file. Their faults name the variable or option."""

    def __init__(self, document: Document, environ: Mapping[str, str], options: Mapping[str, Any]) -> None:
        self._document, self._environ, self._options = document, environ, options

    def concurrency(self, first: Pool) -> Pool:
        source, text = self._given("concurrency", "--concurrency", "JQ_CONCURRENCY")
        if not text:
            return first
        if text == "auto":
            return replace(first, processes=cpus.usable())
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            self._fault(source, f"found {text!r}, expected a number of processes, at least 1, or auto")
            return first
        return replace(first, processes=int(text))

    def http(self, http: Http) -> Http:
        source, text = self._given("metrics_addr", "--metrics-addr", "JQ_METRICS_ADDR")
        if not text:
            return http
        if text.lower() == "off":
            return replace(http, listen=None)
        try:
            host_port(text)
        except ValueError as error:
            self._fault(source, f"found {text!r}, {error}, or off")
        return replace(http, listen=text)

    def log(self, log: Log) -> Log:
        level = self._options.get("log_level")
        if level is None:
            return log
        if level not in LEVELS:
            self._fault("--log-level", f"found {level!r}, expected {', '.join(LEVELS)}{suggestion(level, LEVELS)}")
            return log
        return replace(log, level=level)

    def _given(self, option: str, flag: str, variable: str) -> tuple[str, str]:
        value = self._options.get(option)
        return (flag, str(value)) if value is not None else (variable, self._environ.get(variable, ""))

    def _fault(self, source: str, message: str) -> None:
        place = "command line" if source.startswith("--") else "environment"
        self._document.faults.append(Fault(0, 0, source, message, place))
