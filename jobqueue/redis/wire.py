"""One connection to Redis, as lean as the hot path wants it: a socket, hiredis's parser, and nothing that repeats a
command by itself.

Not a client library: no pool, no retry, no reconnect. After any error the connection is closed and the outcome of
what was sent is unknown; the caller builds a new one and reconciles. Used by workers and stewards (producers and
tools use redis-py). A Wire belongs to the process and the thread that opened it.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis

from jobqueue.errors import DescriptorsUsedUp, ServerRefused, TlsFailed, Unavailable
from jobqueue.redis.connect import Endpoint
from jobqueue.redis.tls import explained, hinted

READ_SIZE: Final = 1 << 14
Argument = Any  # str, bytes, int or float


class Pending:
    """Nothing complete has arrived yet (what `poll` returns then)."""


PENDING: Final = Pending()


def pack(*args: Argument) -> bytes:
    """One command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(args)
    return packed


class Wire:
    """An open, authenticated connection. `timeout`: seconds a reply may take before the connection counts as lost."""

    def __init__(self, endpoint: Endpoint, name: str, timeout: float) -> None:
        self.endpoint, self.timeout = endpoint, timeout
        self._reader = hiredis.Reader(notEnoughData=PENDING)
        self._feed: Callable[..., None] = self._reader.feed
        self._room = bytearray(READ_SIZE)  # to receive into: a new one for each reply costs more than the reply
        self._deferred: list[bytes] = []
        self.answers: list[Any] = []  # of deferred commands, after the call that carried them
        self._sock: socket.socket | None = None
        try:
            self._sock = self._open(endpoint)
            # Opened in a moment or not at all: whoever waits longer here comes late when the network is sound again.
            self._patience(min(timeout, endpoint.connect_timeout))
            self._greet(endpoint, name)
            self._patience(timeout)
        except Unavailable as lost:
            self.close()
            # A server that wants a client certificate says so only after the handshake (TLS 1.3).
            raise self._told(lost) from lost.__cause__
        except BaseException:
            self.close()
            raise

    def _told(self, lost: Unavailable) -> Unavailable:
        """Why it could not be opened, with what TLS has to do with it."""
        tls, shown = self.endpoint.tls, self.endpoint.shown
        if tls is None or isinstance(lost, TlsFailed):
            return lost
        text = lost.cause if tls.cert else hinted(lost, str(lost.cause))
        return explained(lost, shown) or Unavailable(shown, text, sent=lost.sent)

    def _open(self, endpoint: Endpoint) -> socket.socket:
        try:
            if endpoint.path:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.settimeout(endpoint.connect_timeout)
                sock.connect(endpoint.path)
                return sock
            sock = socket.create_connection((endpoint.host, endpoint.port), timeout=endpoint.connect_timeout)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return sock if endpoint.tls is None else endpoint.tls.wrap(sock, endpoint.host, endpoint.shown)
            except BaseException:
                sock.close()
                raise
        except OSError as error:  # ssl.SSLError is one
            if error.errno == errno.EMFILE:
                raise DescriptorsUsedUp(endpoint.shown) from error
            raise Unavailable(endpoint.shown, error, sent=False) from error

    def _greet(self, endpoint: Endpoint, name: str) -> None:
        if endpoint.password:
            self.call("AUTH", *([endpoint.user] if endpoint.user else []), endpoint.password)
        if endpoint.db:
            self.call("SELECT", endpoint.db)
        try:
            self.call("CLIENT", "SETNAME", name)
        except ServerRefused as refused:
            if refused.code != "NOPERM":  # a name is a comfort, not a need
                raise

    def _patience(self, seconds: float) -> None:
        """How long each piece of a command or reply may take. The kernel keeps the time (anew after each signal): Python's own timeouts
        cost a poll() in front of every send and every receive. TLS has to look between its records and keeps Python's."""
        assert self._sock is not None
        if self.endpoint.tls is not None:
            self._sock.settimeout(seconds)
            return
        self._sock.settimeout(None)
        limit = struct.pack("@ll", *divmod(max(1, int(seconds * 1e6)), 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, limit)

    def fileno(self) -> int:
        return self._sock.fileno() if self._sock is not None else -1

    @property
    def open(self) -> bool:
        return self._sock is not None

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def lost(self, cause: object) -> Unavailable:
        """Close, and the error to raise."""
        self.close()
        return Unavailable(self.endpoint.shown, cause)

    def send(self, *args: Argument) -> None:
        """Send one command; its reply is read later."""
        self.write(pack(*args))

    def write(self, data: bytes) -> None:
        """Send packed commands."""
        if self._sock is None:
            raise Unavailable(self.endpoint.shown, "the connection is closed", sent=False)
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise self.lost(_late(error)) from error

    def poll(self) -> Any:
        """A reply that has arrived (an error reply as ServerRefused, not raised), or PENDING. Never waits."""
        reply = self._parse()
        if reply is not PENDING or self._sock is None:
            return reply
        try:
            size = self._receive_now(self._sock)
        except OSError as error:
            raise self.lost(error) from error
        if size is None:
            return PENDING
        if not size:
            raise self.lost("the server closed the connection")
        self._feed(self._room, 0, size)
        return self._parse()

    def _receive_now(self, sock: socket.socket) -> int | None:
        """How much has arrived, into our room; None if nothing has."""
        if self.endpoint.tls is None:
            try:
                return sock.recv_into(self._room, READ_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        sock.settimeout(0)
        try:
            return sock.recv_into(self._room)
        except OSError as error:
            if type(error).__name__ == "SSLWantReadError":  # named, so that only TLS users pay for importing ssl
                return None
            raise
        finally:
            sock.settimeout(self.timeout)

    def read(self) -> Any:
        """The next reply, waiting at most `timeout` for each piece of it; an error reply comes back as ServerRefused,
        not raised."""
        while (reply := self._parse()) is PENDING:
            if self._sock is None:
                raise Unavailable(self.endpoint.shown, "the connection is closed", sent=False)
            try:
                size = self._sock.recv_into(self._room)
            except OSError as error:
                raise self.lost(_late(error)) from error
            if not size:
                raise self.lost("the server closed the connection")
            self._feed(self._room, 0, size)
        return reply

    def _parse(self) -> Any:
        try:
            reply = self._reader.gets()
        except hiredis.ProtocolError as error:
            raise self.lost(error) from error
        if isinstance(reply, hiredis.ReplyError):
            return ServerRefused(str(reply), self.endpoint.shown)
        return reply

    def defer(self, packed: bytes) -> None:
        """Have this command sent in front of the next call, in one write; its reply goes to `answers`."""
        self._deferred.append(packed)

    def call(self, *args: Argument) -> Any:
        """One command, one reply. Raises ServerRefused, Unavailable."""
        reply = self.exchange(pack(*args))
        if isinstance(reply, ServerRefused):
            raise reply
        return reply

    def exchange(self, packed: bytes) -> Any:
        """One packed command, one reply; an error reply comes back as ServerRefused. Raises Unavailable."""
        if self._deferred:
            return self._with_deferred([packed])[0]
        self.write(packed)
        return self.read()

    def pipe(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Several commands in one write; error replies stand in their places as ServerRefused."""
        return self._with_deferred([pack(*command) for command in commands])

    def _with_deferred(self, packed: Sequence[bytes]) -> list[Any]:
        ahead, self._deferred = self._deferred, []
        self.write(b"".join([*ahead, *packed]))
        self.answers = [self.read() for _ in ahead]
        return [self.read() for _ in packed]


def _late(error: OSError) -> OSError:
    """The kernel's word for "not in time" is EAGAIN, which tells nobody anything."""
    return TimeoutError("timed out") if isinstance(error, BlockingIOError) else error


def wait_readable(fds: Sequence[int], timeout: float) -> set[int]:
    """Which of these descriptors can be read, waiting at most `timeout` seconds (EINTR is not an end)."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    end = time.monotonic() + timeout
    while not (ready := poller.poll(max(0.0, end - time.monotonic()) * 1000)):
        if time.monotonic() >= end:
            break
    return {fd for fd, _ in ready}
