"""A log line as text: pretty for people, JSON for machines. Pure but for the local time zone.

Nothing here decides what is logged or where it goes (`supervisor.logs`, `supervisor.logsink`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobqueue import address

_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
# Control characters (C0, DEL, C1) drive a terminal; bidirectional overrides make a line lie; a line separator splits it.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_QUOTE = re.compile(r'[\s"=]')
_SHORTEST = 200


def json_line(
    now: float,
    level: str,
    event: str,
    fields: Mapping[str, Any],
    *,
    secrets: Sequence[str] = (),
    limit: int | None = None,
) -> bytes:
    """One JSON object and a line feed; `time` is UTC with milliseconds. Longest texts lose their beginning to fit `limit`."""
    line: dict[str, Any] = {"time": _utc(now), "level": level, "event": hide(event, secrets)}
    line |= {key: _plain(value, secrets) for key, value in fields.items() if key not in line}
    data = _encode(line)
    while limit is not None and len(data) > limit:
        name = max((key for key in line if isinstance(line[key], str)), key=lambda key: len(line[key]), default=None)
        if name is None or len(line[name]) <= _SHORTEST:
            break
        # The end of a traceback says what happened. A character takes up to 12 bytes as JSON, so go on until it fits.
        keep = max(_SHORTEST - 1, len(line[name]) - max(len(data) - limit, len(line[name]) // 8))
        line[name] = "…" + line[name][-keep:]
        data = _encode(line)
    return data


def pretty(
    now: float, level: str, event: str, fields: Mapping[str, Any], *, colour: bool, secrets: Sequence[str] = ()
) -> str:
    """`12:00:00.123 warning  worker  event  slot=default/0 cause=crashed`; several lines of text follow indented."""
    rest = dict(fields)
    role = rest.pop("role", "")
    words, below = _described(rest, colour, secrets)
    stamp = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    name = f"\x1b[{_COLOURS[level]}m{level:<7}\x1b[0m" if colour else f"{level:<7}"
    head = f"{_dim(stamp, colour)} {name} {escape(str(role)):<10} {escape(hide(event, secrets))}"
    return "\n".join(["  ".join([head, *([" ".join(words)] if words else [])]), *below]) + "\n"


def message(event: str, fields: Mapping[str, Any], secrets: Sequence[str] = ()) -> str:
    """As `pretty`, for a journal that has time, level and pid of its own: `worker: worker gone  slot=default/0 cause=crashed`."""
    rest = {key: value for key, value in fields.items() if key != "pid"}
    role = rest.pop("role", "")
    words, below = _described(rest, False, secrets)
    head = f"{escape(str(role))}: {escape(hide(event, secrets))}"
    return "\n".join(["  ".join([head, *([" ".join(words)] if words else [])]), *below])


def text(value: Any, secrets: Sequence[str] = ()) -> str:
    """One value alone, as text."""
    return hide(value if isinstance(value, str) else _shown(value), secrets)


def _described(fields: Mapping[str, Any], colour: bool, secrets: Sequence[str]) -> tuple[list[str], list[str]]:
    """`key=value` words, and the lines below them of values that have several lines."""
    below: list[str] = []
    words: list[str] = []
    for key, value in fields.items():
        if value is None:
            continue
        shown = text(value, secrets)
        if "\n" in shown.strip():
            below += [f"    {escape(row)}" for row in shown.strip().splitlines()]
            continue
        shown = escape(shown.strip("\n"))
        if not shown or _QUOTE.search(shown):
            shown = '"' + shown.replace('"', '\\"') + '"'
        words.append(f"{_dim(escape(key) + '=', colour)}{shown}")
    return words, below


def hide(text: str, secrets: Sequence[str]) -> str:
    """`text` without the passwords of URLs in it and without `secrets`."""
    if "://" in text:
        text = address.masked(text)
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, "***")
    return text


def escape(text: str) -> str:
    """`text` with what could drive a terminal or split a line written as an escape: `\\x1b`, `\\u2028`."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _utc(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def _plain(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        return hide(value, secrets)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, secrets) for item in value]
    return hide(_shown(value), secrets)


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) else str(value)


def _encode(line: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(line) + b"\n"
    except (UnicodeEncodeError, ValueError, OverflowError):
        import json  # half of a surrogate pair, or a number beyond 64 bits

        return json.dumps(line, ensure_ascii=True, default=str).encode("ascii") + b"\n"


def _dim(text: str, colour: bool) -> str:
    return f"\x1b[2m{text}\x1b[0m" if colour else text
