"""Writes docs/configuration.md: types and defaults from the settings, meanings from the comments of config/jobqueue.yaml.

    python docs/configuration.py > docs/configuration.md

Run it after a change of either; a test compares the page with what this prints.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT
from msgspec import inspect as shape

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from jobqueue.settings import Backoff, CronEntry, QueueSettings, RedisSettings  # noqa: E402
from supervisor.settings import Http, Log, Pool, Settings, Shutdown  # noqa: E402

SECTIONS = (
    ("redis", RedisSettings, "Where Redis is. One server, Sentinel group or Cluster for the whole of jqd."),
    ("pools", Pool, "A list of pools. A pool is a number of worker processes that serve the same queues."),
    (
        "queues",
        QueueSettings,
        'Settings by queue name. The entry `"*"` holds for every queue that does not say otherwise.',
    ),
    ("cron", CronEntry, "Jobs by the clock, by name. What it does exactly: [cron.md](cron.md)."),
    ("http", Http, "The exporter: metrics, health, dashboard."),
    ("shutdown", Shutdown, "What a drain may take."),
    ("log", Log, "Where lines go and how they look."),
)
HEAD = """# Configuration

<!-- Written by docs/configuration.py. Do not edit: change the settings or the comments in config/jobqueue.yaml. -->

One YAML file. `jqd -c FILE --check` reads it, imports the handlers, reaches Redis and prints every fault with its line and
column; a reload (`HUP`) does the same first, and changes nothing if there is one.

Durations: `10ms 30s 5m 2h 7d`, or a number of seconds. Sizes: `512MB` (10^6), `1GiB` (2^30), or a number of bytes.
`${NAME}` is an environment variable that must be set, `${NAME:-default}` one that need not be.

What wins: option, then environment, then file, then default.

| option | environment | replaces |
|---|---|---|
| `--addr` | `JQ_REDIS_ADDR`, `REDIS_URL` | `redis.url` |
| `--concurrency` | `JQ_CONCURRENCY` | `processes` of the first pool |
| `--metrics-addr` | `JQ_METRICS_ADDR` | `http.listen` |
| `--log-level` | | `log.level` |
| `--config` | `JQD_CONFIG` | which file is read |

The smallest useful file:

```yaml
handlers: [jobqueue.demo]
pools: [{name: default, processes: 2, queues: [default]}]
```
"""
LINE = re.compile(r"^\s*(?:# )?(?:- )?\"?([a-z_*]+)\"?:(?:\s|$)")


def main() -> None:
    sys.stdout.write(page())


def page() -> str:
    meanings = comments((ROOT / "config/jobqueue.yaml").read_text())
    parts = [HEAD, "## Top level\n\n" + table(Settings, meanings.get("", {}), ("handlers", "pidfile"))]
    for name, struct, words in SECTIONS:
        parts.append(f"## `{name}`\n\n{words}\n\n{table(struct, meanings.get(name, {}))}")
        if struct is QueueSettings:
            parts.append(f"### `backoff`\n\n{Backoff.__doc__}\n\n{table(Backoff, {})}")
    return "\n".join(parts)


def table(struct: type[msgspec.Struct], meanings: dict[str, str], only: tuple[str, ...] = ()) -> str:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    types = {field.name: field.type for field in shape.type_info(struct).fields}  # type: ignore[attr-defined]
    for field in msgspec.structs.fields(struct):
        extra = getattr(types[field.name], "extra", None) or {}
        if (only and field.name not in only) or extra.get("derived"):
            continue
        meaning = meanings.get(field.name, "").replace("|", "\\|")
        rows.append(f"| `{field.name}` | {kind(types[field.name])} | {default(field, types[field.name])} | {meaning} |")
    return "\n".join(rows) + "\n"


def kind(type_: Any) -> str:
    if isinstance(type_, shape.Metadata):
        unit = (type_.extra or {}).get("unit")
        return str(unit) if unit else kind(type_.type)
    match type_:
        case shape.UnionType():
            names = [kind(one) for one in type_.types if not isinstance(one, shape.NoneType)]
            return " or ".join(names) + " or `null`" * (shape.NoneType() in type_.types)
        case shape.LiteralType():
            return ", ".join(f"`{value}`" for value in type_.values)
        case shape.VarTupleType() | shape.ListType():
            return "list"
        case shape.StructType():
            return "mapping"
        case shape.BoolType():
            return "`true`, `false`"
        case shape.IntType():
            return "number"
        case shape.FloatType():
            return "number"
        case _:
            return "text"


def default(field: Any, type_: Any) -> str:
    value = field.default
    if value is NODEFAULT:
        return "needed" if field.default_factory is NODEFAULT else "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and "duration" in kind(type_):
        return f"`{duration(value)}`"
    if isinstance(value, msgspec.Struct):
        return "see below"
    if value in ("", ()):
        return "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def comments(text: str) -> dict[str, dict[str, str]]:
    """section → key → what the file's comment beside it says. Keys at the top level are in section ""."""
    found: dict[str, dict[str, str]] = {"": {}}
    section, key = "", ""
    for line in text.splitlines():
        code, _, said = line.partition(" # ") if not line.lstrip().startswith("#") else commented(line)
        match = LINE.match(code)
        if match is not None:
            name, outer = match[1], not line.startswith(" ")
            if outer and name in {one[0] for one in SECTIONS}:
                section, key = name, ""
                found.setdefault(section, {})
                continue
            where = "" if outer else section
            key = f"{where}/{name}"
            found[where].setdefault(name, said.strip())
        elif key and line.startswith(" " * 20) and line.lstrip().startswith("# "):
            where, name = key.split("/")
            found[where][name] += " " + line.strip().removeprefix("#").strip()
    return {name: {key: sentence(said) for key, said in entries.items()} for name, entries in found.items()}


def commented(line: str) -> tuple[str, str, str]:
    """The parts of a line that is itself a comment: `  # key: value    # what it means`."""
    code, mark, said = line.lstrip().removeprefix("#").partition(" # ")
    return (line[: len(line) - len(line.lstrip())] + "# " + code.strip(), mark, said)


def sentence(said: str) -> str:
    return said.removeprefix("… ").strip().rstrip(",")


if __name__ == "__main__":
    main()
