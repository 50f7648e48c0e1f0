"""What a worker said last, kept where its death does not reach: its latest output and, if asked in time, its Python stack.

Not the log. The worker writes (`Words`), the steward reads them into the dead letter (`read`), the master asks for the stack shortly
before a hard limit (`STACK`). One small file a worker, in the master's folder in memory; a worker that leaves as planned removes its own.
Output is what Python code prints or logs; what C code writes by itself is not seen.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import mmap
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any, Final

from supervisor.metrics_dir import VARIABLE

STACK: Final = signal.SIGRTMIN + 3
"""Asks a worker for its stack: answered by C code in the signal handler, so also while Python code cannot run."""
LEAD: Final = 0.5
"""Seconds before the hard limit at which the master asks."""
OUTPUT: Final = 4096
_HEAD: Final = 8
MOST_STACK: Final = 3500
MOST_OUTPUT: Final = 2500


def path(birth: int) -> str | None:
    """The file of one worker; None if the master has no folder."""
    folder = os.environ.get(VARIABLE)
    return os.path.join(folder, f"words-{birth}") if folder else None


class Words:
    """A ring of the last 4 KiB of output, and behind it whatever faulthandler appends. Never raises after its birth."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Pages that are really there: to write to one that a full folder cannot give would be death by SIGBUS.
            os.posix_fallocate(self.fd, 0, _HEAD + OUTPUT)
        except OSError:
            os.close(self.fd)
            os.unlink(file)
            raise
        self._map = mmap.mmap(self.fd, _HEAD + OUTPUT)
        self._written = 0

    def add(self, data: bytes) -> None:
        """More output. The count is written last: what it does not cover yet is not read."""
        data = data[-OUTPUT:]
        at = self._written % OUTPUT
        first = data[: OUTPUT - at]
        self._map[_HEAD + at : _HEAD + at + len(first)] = first
        if rest := data[len(first) :]:
            self._map[_HEAD : _HEAD + len(rest)] = rest
        self._written += len(data)
        self._map[:_HEAD] = self._written.to_bytes(_HEAD, "little")

    def forget(self) -> None:
        """The worker leaves as planned."""
        with contextlib.suppress(OSError):
            os.unlink(self._file)


class Tee(io.TextIOBase):
    """Standard output or error, whose words are also kept."""

    def __init__(self, stream: Any, words: Words) -> None:
        self._stream, self._words = stream, words

    def write(self, text: str) -> int:
        written: int = self._stream.write(text)
        with contextlib.suppress(Exception):  # a handler's print must not fail for our sake
            self._words.add(text.encode("utf-8", "backslashreplace"))
        return written

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    # What io.TextIOBase answers for itself and a stream knows better.
    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._stream.encoding)

    @property
    def buffer(self) -> Any:
        return self._stream.buffer


def listen(birth: int) -> Words | None:
    """In a worker: keep what it says from now on. None if that is not possible; it is not worth a worker."""
    file = path(birth)
    if file is None:
        signal.signal(STACK, signal.SIG_IGN)
        return None
    try:
        words = Words(file)
        faulthandler.register(STACK, file=words.fd, all_threads=True, chain=False)
        faulthandler.enable(file=words.fd, all_threads=True)  # a segmentation fault in C code tells where, too
    except (OSError, ValueError, RuntimeError):
        signal.signal(STACK, signal.SIG_IGN)  # or the question would kill it
        return None
    sys.stdout, sys.stderr = Tee(sys.stdout, words), Tee(sys.stderr, words)
    return words


def read(birth: int) -> tuple[str, str]:
    """(stack, output) of a worker that is dead; empty if there is nothing."""
    file = path(birth)
    if file is None:
        return "", ""
    try:
        with open(file, "rb") as source:
            data = source.read(_HEAD + OUTPUT + (64 << 10))
    except OSError:
        return "", ""
    written, ring = int.from_bytes(data[:_HEAD], "little"), data[_HEAD : _HEAD + OUTPUT]
    at = written % OUTPUT
    output = ring[:written] if written <= OUTPUT else ring[at:] + ring[:at]
    return data[_HEAD + OUTPUT :].decode("utf-8", "replace"), output.decode("utf-8", "replace")


def told(stack: str, output: str) -> str:
    """Both as a dead letter shows them: the newest stack, most recent call first, and the end of the output."""
    parts = []
    begin = max(stack.rfind("\n\n", 0, len(stack) - 2), 0)
    if newest := _current(stack[begin:]).strip():
        parts.append(f"Python stack, most recent call first:\n{newest[:MOST_STACK]}")
    if said := output.strip():
        parts.append(f"Last output of its process:\n{said[-MOST_OUTPUT:]}")
    return "\n\n".join(parts)


def _current(stack: str) -> str:
    """Of the threads in a dump, from the last "Current thread" on: the one that ran the handler comes last."""
    at = stack.rfind("Current thread")
    return stack[at:] if at >= 0 else stack


def forget(birth: int) -> None:
    """The steward has read it."""
    file = path(birth)
    if file is not None:
        with contextlib.suppress(OSError):
            os.unlink(file)
