"""Listening, and uvicorn with limits: who is slow or hostile costs a connection, not the answer to the next one.

Not the routes (`app`). Called by `supervisor.roles.exporter`. uvicorn has no time limit for a request's arrival, none
for a client that does not read, and answers 503 to everybody when there are too many connections; so connections have
an age here, and when there are too many the oldest goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.exporter.stream import MARK

LONGEST: Final = 15.0
"""Seconds from a connection's start, or its last answer, to the next complete answer."""
TICK: Final = 1.0  # seconds between two looks at the clock: answers say the date
MOST: Final = 200
"""Connections at once."""
TAKEN_FOR: Final = 5.0
"""Seconds a taken port is tried again: the exporter before us may still be leaving."""


class PortTaken(OSError):
    """Somebody else listens there."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        super().__init__(
            f"http.listen: port {port} of {host} is taken by another program (another jqd?). "
            "Stop it, or listen elsewhere: http.listen, --metrics-addr, JQ_METRICS_ADDR"
        )


class CannotListen(OSError):
    """The address is not one of this machine's, or not allowed."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        self.host, self.port, self.cause = host, port, cause
        super().__init__(f"http.listen: cannot listen on port {port} of {host}: {cause}")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken (worth another try) or CannotListen."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] means IPv4, too
        sock.bind(address)
        sock.listen(128)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from error
        raise CannotListen(host, port, error.strerror or str(error)) from error
    sock.setblocking(False)
    return sock


async def listen_soon(host: str, port: int) -> socket.socket:
    """`listen`, tried again for 5 s while the port is taken."""
    give_up = asyncio.get_running_loop().time() + TAKEN_FOR
    while True:
        try:
            return listen(host, port)
        except PortTaken:
            if asyncio.get_running_loop().time() > give_up:
                raise
        await asyncio.sleep(0.1)


def address(sock: socket.socket) -> str:
    """`127.0.0.1:2112` or `[::1]:2112`: where it listens really (port 0 was replaced)."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Connection(H11Protocol):
    """A client, and since when it has not been given a complete answer."""

    since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        if len(self.connections) > MOST:
            # One that streams has no age: those are few, and counted elsewhere.
            others = [other for other in self.connections if isinstance(other, _Connection) and not other.streams()]
            min(others, key=_age, default=self).transport.abort()

    def streams(self) -> bool:
        """Its answer is meant to have no end."""
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn says of its type
        return cycle is not None and MARK in self.scope and not cycle.response_complete

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except (UnicodeError, ValueError, RuntimeError, AttributeError):
            self.transport.abort()  # bytes neither h11 nor uvicorn foresaw: an unreadable path, data after an upgrade

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()


def _age(connection: _Connection) -> float:
    return connection.since


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the master decides when this process leaves."""

    def __init__(self, app: ASGIApp) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line per malformed request would fill any disk
        options: dict[str, Any] = {"ws": "none", "lifespan": "off", "loop": "asyncio", "interface": "asgi3"}
        limits: dict[str, Any] = {
            "h11_max_incomplete_event_size": 16 << 10,
            "timeout_keep_alive": 5,
            "timeout_graceful_shutdown": 1,
        }
        quiet: dict[str, Any] = {
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,
        }
        super().__init__(uvicorn.Config(app, http=_Connection, **options, **limits, **quiet))

        self._leave = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it should leave, which is most of what an exporter costs that nobody asks."""
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), TICK)

    def leave(self) -> None:
        """Finish what is being answered, then end."""
        self.should_exit = True
        self._leave.set()

    def drop_slow(self) -> None:
        """End connections that have waited for too long. Called once a second."""
        oldest = asyncio.get_running_loop().time() - LONGEST
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Connection) and connection.since < oldest and not connection.streams():
                connection.transport.abort()
