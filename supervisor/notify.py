"""sd_notify: what the master tells systemd (or any manager that set NOTIFY_SOCKET), one datagram a word.

Not a health check: the watchdog ping is sent from the master's loop itself, never by a helper thread. Called by the
master only; children do not get the variables. Nothing here raises or blocks: a manager that does not listen must not
stop the work.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

VARIABLES: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


class Notifier:
    """Does nothing when there is no address. `watchdog_interval`: how often to call `watchdog`, in seconds, or None."""

    def __init__(self, address: str | None, watchdog_interval: float | None = None) -> None:
        self.watchdog_interval = watchdog_interval
        self._address = None if address is None else _socket_address(address)
        self._socket: socket.socket | None = None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Takes the variables out of `environ`, so that no child answers in our place."""
        found = {name: environ.pop(name) for name in VARIABLES if name in environ}
        return cls(found.get("NOTIFY_SOCKET") or None, _interval(found))

    def ready(self, status: str) -> None:
        """The first workers are ready; also ends a reload."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload begins. Type=notify-reload wants the monotonic time with it; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """The loop has turned."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with contextlib.suppress(OSError):  # the manager restarts, or its buffer is full: the next word will do
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                )
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), socket.MSG_NOSIGNAL, self._address)


def _socket_address(text: str) -> bytes | None:
    """`@name` is Linux's abstract namespace; anything but that or an absolute path is no address."""
    raw = os.fsencode(text)
    if raw.startswith(b"@"):
        return b"\0" + raw[1:]
    return raw if raw.startswith(b"/") else None


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def _interval(found: MutableMapping[str, str]) -> float | None:
    """Half of what the manager allows; None if the watchdog is off or meant for another process."""
    try:
        allowed = int(found.get("WATCHDOG_USEC", "0"))
        owner = int(found.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    return allowed / 2e6 if allowed > 0 and owner == os.getpid() else None
