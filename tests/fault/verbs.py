"""What a command is called in a report: a script by its verb, with what it settles; anything else by its own name.

Pure but for reading the package's scripts once. Used by `tests.fault.proxy`.
"""

from __future__ import annotations

from functools import cache

from jobqueue.redis import scripts

VERSIONS = ((6, 2), scripts.FLAGS_SINCE)
TWO_WORDS = frozenset({"CLIENT", "CONFIG", "SCRIPT"})
OPERATIONS_AT = 8  # where the operations begin among settle's arguments


@cache
def _known() -> dict[bytes, str]:
    """By SHA1 and by source."""
    names = [path.stem for path in scripts.FOLDER.glob("*.lua") if not path.name.endswith(".part.lua")]
    found = {}
    for name in names:
        for version in VERSIONS:
            script = scripts.load(name, version)
            found[script.sha.encode()] = found[script.source.encode()] = name
    return found


def verb(args: list[bytes]) -> str:
    """`settle` for a trip that only claims, `settle:aR` for one that also settles (its operations), `CLIENT ID`, `BLMOVE` …"""
    name = args[0].decode("ascii", "replace").upper()
    if name in ("EVALSHA", "EVAL"):
        script = _known().get(args[1], "script?")
        return script + _operations(args) if script == "settle" else script
    if name in TWO_WORDS and len(args) > 1:
        return f"{name} {args[1].decode('ascii', 'replace').upper()}"
    return name


def _operations(args: list[bytes]) -> str:
    """The letters of what a trip settles."""
    steps = {b"A": 2, b"a": 4, b"R": 3, b"B": 5, b"Q": 2}
    at, seen = 3 + int(args[2]) + OPERATIONS_AT, ""
    while at < len(args):
        letter = args[at].decode()
        seen += letter if letter not in seen else ""
        at += steps[args[at]]
    return f":{seen}" if seen else ""
