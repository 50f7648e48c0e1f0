"""A network between jqd and Redis that a test can break: a TCP port whose traffic passes, stalls, crawls or is cut.

It knows nothing of Redis (the proxy of the fault tests does): bytes only, one thread, one selector.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from enum import Enum
from typing import Literal

from tests.support.ports import free_port

CHUNK = 1 << 16

# OPEN        bytes pass.
# BLACK_HOLE  connections stay open and new ones are taken up, but nothing passes in any direction.
# CUT         connections are reset, new ones refused at once.


class State(Enum):
    OPEN = "open"
    BLACK_HOLE = "black hole"
    CUT = "cut"


class Pair:
    """One connection and its counterpart, with what is on its way: (when it may arrive, bytes)."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.queued: dict[socket.socket, list[tuple[float, bytes]]] = {client: [], server: []}
        self.severed = False

    def other(self, sock: socket.socket) -> socket.socket:
        return self.server if sock is self.client else self.client


class Link:
    """`port`: where clients connect to. `upstream`: path of a Unix socket, or (host, port).

    `delay`: seconds each way. `rate`: bytes a second each way of one connection, 0 = unbounded. `limit`: connections
    at a time, 0 = unbounded. `accepted`: monotonic time of each connection that clients ever made.
    """

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self.upstream, self.port = upstream, free_port()
        self.delay = self.rate = 0.0
        self.limit = 0
        self.accepted: list[float] = []
        self.state = State.OPEN
        self._selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, Pair] = {}
        self._deaf: list[socket.socket] = []
        self._half_open = False
        self._bell, self._ring = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._listen()
        self._lock = threading.RLock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        with self._lock:
            return len({id(pair) for pair in self._pairs.values()})

    def cut(self) -> None:
        """Reset everything, refuse everything, until `heal`."""
        with self._lock:
            self.state = State.CUT
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None
            self._close_all()
        self._wake()

    def black_hole(self) -> None:
        """Swallow everything, until `heal`; what was sent meanwhile never arrives and connections of before stay dead."""
        with self._lock:
            self.state = State.BLACK_HOLE
            for pair in self._pairs.values():
                pair.severed = True
        self._wake()

    def half_open(self) -> None:
        """The clients' side of every connection is reset, the server hears nothing of it; new connections work."""
        with self._lock:
            for pair in {id(p): p for p in self._pairs.values()}.values():
                self._forget(pair.client)
                _reset(pair.client)
                self._forget(pair.server)
                self._deaf.append(pair.server)
        self._wake()

    def heal(self) -> None:
        """New connections work again."""
        with self._lock:
            if self._listener is None:
                self._listen()
            self.state = State.OPEN
            for pair in {id(p): p for p in self._pairs.values()}.values():
                if pair.severed and pair.server.fileno() < 0:
                    self._close(pair)
        self._wake()

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join(10)
        with self._lock:
            self._close_all()
            for sock in [*self._deaf, self._bell, self._ring, self._listener]:
                if sock is not None:
                    sock.close()
            self._selector.close()

    # ------------------------------------------------------------------ the thread

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._ring.send(b"!")

    def _run(self) -> None:
        while not self._closing:
            events = self._selector.select(0.001 if self._waiting() else 0.5)
            with self._lock:
                for key, _ in events:
                    sock = key.fileobj
                    if sock is self._bell:
                        self._bell.recv(4096)
                    elif sock is self._listener:
                        self._accept()
                    elif isinstance(sock, socket.socket) and (pair := self._pairs.get(sock)) is not None:
                        self._receive(pair, sock)
                self._deliver(time.monotonic())

    def _waiting(self) -> bool:
        with self._lock:
            return any(any(pair.queued.values()) for pair in self._pairs.values() if not pair.severed)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            self.accepted.append(time.monotonic())
            if self.limit and self.connections >= self.limit:
                _reset(client)
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                server = self._dial()
            except OSError:
                _reset(client)
                return
            pair = Pair(client, server)
            pair.severed = self.state is State.BLACK_HOLE
            for sock in (client, server):
                sock.setblocking(False)
                self._pairs[sock] = pair
                self._selector.register(sock, selectors.EVENT_READ)

    def _dial(self) -> socket.socket:
        if isinstance(self.upstream, tuple):
            return socket.create_connection(self.upstream, 5)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        sock.connect(self.upstream)
        return sock

    def _receive(self, pair: Pair, sock: socket.socket) -> None:
        try:
            data = sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if pair.severed:
            if not data:  # nobody hears of it
                self._forget(sock)
                sock.close()
            return
        if not data:
            self._close(pair)
            return
        queue = pair.queued[pair.other(sock)]
        due = max(time.monotonic() + self.delay, queue[-1][0] if queue else 0.0)
        queue.append((due + (len(data) / self.rate if self.rate else 0.0), data))

    def _deliver(self, now: float) -> None:
        for pair in list({id(p): p for p in self._pairs.values()}.values()):
            if pair.severed:
                continue
            for sock, queue in pair.queued.items():
                while queue and queue[0][0] <= now:
                    due, data = queue[0]
                    try:
                        sent = sock.send(data)
                    except BlockingIOError:
                        break
                    except OSError:
                        self._close(pair)
                        break
                    queue[0:1] = [(due, data[sent:])] if sent < len(data) else []

    def _forget(self, sock: socket.socket) -> None:
        if self._pairs.pop(sock, None) is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(sock)

    def _close(self, pair: Pair) -> None:
        for sock in (pair.client, pair.server):
            self._forget(sock)
            sock.close()

    def _close_all(self) -> None:
        for pair in list({id(p): p for p in self._pairs.values()}.values()):
            for sock in (pair.client, pair.server):
                self._forget(sock)
                _reset(sock)


def _reset(sock: socket.socket) -> None:
    """Close with RST where the protocol knows such a thing."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


Fault = Literal["cut", "black hole", "half open"]
