"""Log lines as entries of systemd's journal, each of our fields as a field of its own: `journalctl JQD_SLOT=default/0`.

Not used unless standard error is the journal and the format is `auto` (`supervisor.logs` decides). A line is one datagram;
like every sink it may lose a line, and says so later, but it never raises and never waits.
Format: systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

from supervisor import logformat

SOCKET: Final = "/run/systemd/journal/socket"
PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}
LIMIT: Final = 32 << 10  # bytes of one field: a datagram must fit a socket's buffer
_NAME = re.compile(r"[^A-Z0-9_]")


class Journal:
    """A way to journald. `lost`: entries it did not take, told with the next one that it takes."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.lost = 0

    def write(self, level: str, event: str, fields: Mapping[str, Any], secrets: Sequence[str]) -> None:
        if self.lost and self._send(entry("warning", "log lines were lost", {"lost": self.lost}, ())):
            self.lost = 0
        if not self._send(entry(level, event, fields, secrets)):
            self.lost += 1

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes) -> bool:
        try:
            self._socket.sendto(data, self._address)
        except OSError:
            return False
        return True


def on_standard_error(environ: Mapping[str, str]) -> bool:
    """Whether systemd connected our standard error to the journal, and nobody has led it elsewhere since."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def entry(level: str, event: str, fields: Mapping[str, Any], secrets: Sequence[str]) -> bytes:
    """The datagram: a message for people to read, and every field once more for `journalctl` to search."""
    parts = [
        _field("MESSAGE", logformat.message(event, fields, secrets)),
        _field("PRIORITY", str(PRIORITIES[level])),
        _field("SYSLOG_IDENTIFIER", "jqd"),
        _field("JQD_EVENT", logformat.hide(event, secrets)),
    ]
    for key, value in fields.items():
        if value is not None:
            parts.append(_field(f"JQD_{_NAME.sub('_', key.upper())[:59]}", logformat.text(value, secrets)))
    return b"".join(parts)


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if len(data) > LIMIT:
        data = "…".encode() + data[-LIMIT:]  # the end of a traceback says what happened
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
