"""The Lua verbs as data: source by name and by server generation, with their SHA1. No I/O but reading the package's
own files.

Every verb but `enqueue`, `push` and `tick` must pass when the server's memory is full, because running jobs is what frees it:
from Redis 7 on a flag in the first line says so; before, a script that has already written is not refused, so one
opens with a write that changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("lua")
PRODUCING = frozenset({"enqueue", "push", "tick"})  # these must be refused when memory is full
FLAGS_SINCE = (7, 0)
ABSENT = "\\0jqd: no such element"
NOTHING_WRITTEN = {
    # A write that changes nothing, of the type of KEYS[1], whatever its length. Scripts that begin with a write of their own
    # that is never refused, or only read, need none.
    "redis.call('LTRIM', KEYS[1], 0, -1)": frozenset(
        {"settle", "reconcile", "fence", "recover", "hand_back", "promote", "return_next", "retire", "purge_begin"}
    ),
    "redis.call('EXPIRE', KEYS[1], ARGV[3])": frozenset({"last_tick"}),  # as it does anyhow
    f"redis.call('HDEL', KEYS[1], '{ABSENT}')": frozenset({"join", "beat"}),
    f"redis.call('ZREM', KEYS[1], '{ABSENT}')": frozenset({"dead_retry", "promote_now"}),
}
# Read once, when the code that goes with them is: an upgrade of the files must not give a living process other verbs.
_TEXTS = {path.name: path.read_text() for path in FOLDER.glob("*.lua")}


@dataclass(frozen=True, slots=True)
class Script:
    """One verb: `source` to send with EVAL, `sha` for EVALSHA."""

    name: str
    source: str
    sha: str


@cache
def load(name: str, version: tuple[int, ...]) -> Script:
    """The script `lua/<name>.lua` as a server of that version wants it. Parts are spliced in where `--#include NAME`
    stands."""
    lines = []
    for line in _TEXTS[f"{name}.lua"].splitlines():
        if line.startswith("--#include "):
            lines += _TEXTS[f"{line.split()[1]}.part.lua"].splitlines()
        else:
            lines.append(line)
    body = "\n".join(line for line in lines if not line.startswith("-- ")) + "\n"
    if version >= FLAGS_SINCE:
        head = "#!lua\n" if name in PRODUCING else "#!lua flags=allow-oom\n"
    else:
        head = "".join(f"{call}\n" for call, names in NOTHING_WRITTEN.items() if name in names)
    source = head + body
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def parse_version(text: str) -> tuple[int, ...]:
    """'7.0.15' → (7, 0, 15); anything unreadable → (0,)."""
    parts = []
    for part in text.split("."):
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts) or (0,)
