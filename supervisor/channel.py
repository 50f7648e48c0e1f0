"""Channels: one JSON object a packet between the master and its children, with file descriptors beside it.

Not a stream and not a protocol: who says what is decided by the two ends. Called by the master and by every role.

AF_UNIX SOCK_SEQPACKET keeps packets whole and tells of the other end's death by EOF. Packets too large for a socket
buffer (a traceback, the state of a thousand slots) travel as a memfd beside an empty object, so no message is too large
to be sent.
"""

from __future__ import annotations

import array
import collections
import contextlib
import errno
import fcntl
import json
import os
import select
import socket
from collections.abc import Sequence
from typing import Any, Final

CHANNEL_FD: Final = 3
BOARD_FD: Final = 4
SETTINGS_FD: Final = 5
"""What a child is born with, besides the usual three; `preload: false` workers alone have the last."""
MASTER_PID: Final = "JQD_MASTER_PID"
"""The environment variable that says who a child's parent must be."""

_INLINE: Final = 32 * 1024
_BUFFER: Final = 64 * 1024
_FDS_ROOM: Final = socket.CMSG_SPACE(16 * 4)
_MAX_QUEUE: Final = 4096
_LARGE: Final = b'{"@":"memfd"}'
_WAIT: Final = (BlockingIOError, InterruptedError)
_NO_ROOM: Final = (errno.ENOBUFS, errno.ETOOMANYREFS)
_GONE: Final = (errno.EPIPE, errno.ENOTCONN, errno.EBADF)

Message = dict[str, Any]


class ChannelClosed(ConnectionError):
    """The other end is gone, or has not read for thousands of messages."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the channel's other end is gone: {reason}")


class Channel:
    """One end. Never blocks: what the other end cannot take yet is kept until `flush`, when `wants_write` says so."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._queue: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self.closed = False

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """True while messages wait for room."""
        return bool(self._queue)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send `message`; `fds` stay the caller's. Raises ChannelClosed."""
        if self.closed:
            raise ChannelClosed("closed")
        data = json.dumps(message, separators=(",", ":")).encode()
        with contextlib.ExitStack() as stack:
            sent = list(fds)
            if len(data) > _INLINE:
                large = memfd(data, "jqd-message")
                stack.callback(os.close, large)
                data, sent = _LARGE, [large, *sent]
            if not self._queue and self._try(data, sent):
                return
            if len(self._queue) >= _MAX_QUEUE:
                self.closed = True
                raise ChannelClosed(f"{_MAX_QUEUE} messages were not read")
            self._queue.append((data, [os.dup(fd) for fd in sent]))

    def flush(self) -> None:
        """Send what waits, as far as there is room. Raises ChannelClosed."""
        while self._queue:
            data, fds = self._queue[0]
            if not self._try(data, fds):
                return
            self._queue.popleft()
            _close_all(fds)

    def receive(self) -> list[tuple[Message, list[int]]]:
        """All messages that are there now; their descriptors are the caller's to close. Sets `closed` at EOF."""
        messages: list[tuple[Message, list[int]]] = []
        while not self.closed:
            try:
                # Not socket.recv_fds: it ignores its flags, and descriptors must be close-on-exec from their first moment.
                data, beside, flags, _ = self._sock.recvmsg(_BUFFER, _FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
            except _WAIT:
                break
            except ConnectionResetError:
                continue  # the other end left with unread packets; what it sent before is still to be read
            fds = _descriptors(beside)
            if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                _close_all(fds)
                self.closed = True
                break
            message = _decode(data, fds)
            if message is None:
                _close_all(fds)
                self.closed = True  # whatever speaks there is none of ours
                break
            messages.append((message, fds))
        return messages

    def wait(self, timeout: float) -> bool:
        """Wait until there is something to receive (EOF too). For roles that have nothing else to do; seconds."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        self.closed = True
        while self._queue:
            _close_all(self._queue.popleft()[1])
        self._sock.close()

    def _try(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            self._sock.sendmsg([data], beside, socket.MSG_NOSIGNAL)
        except _WAIT:
            return False
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            if isinstance(error, (BrokenPipeError, ConnectionError)) or error.errno in _GONE:
                self.closed = True
                raise ChannelClosed(str(error)) from error
            raise
        return True


def pair() -> tuple[Channel, socket.socket]:
    """Our end and the child's; both close-on-exec."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs


def socket_of(fd: int) -> socket.socket:
    """The socket behind a descriptor that is ours now; close-on-exec."""
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def inherited(fd: int) -> Channel:
    """The channel a process was born with."""
    return Channel(socket_of(fd))


def memfd(data: bytes, name: str) -> int:
    """`data` as a sealed, immutable, close-on-exec descriptor that any number of processes may read."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def read_memfd(fd: int) -> bytes:
    """Everything in `fd`, wherever its position is; `fd` stays open."""
    size, parts, at = os.fstat(fd).st_size, [], 0
    while at < size:
        part = os.pread(fd, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _descriptors(beside: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _decode(data: bytes, fds: list[int]) -> Message | None:
    if data == _LARGE:
        if not fds:
            return None
        large = fds.pop(0)
        try:
            data = read_memfd(large)
        finally:
            os.close(large)
    try:
        message = json.loads(data)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
