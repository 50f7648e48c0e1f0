"""A proxy between any process and Redis that understands where commands and replies end, numbers them, and acts at a chosen one.

It knows who is at the other end of each connection from the kernel (SO_PEERCRED), so nothing in the product helps it. It acts at two
sides of a command: `before` the server sees it, and `after` the server executed it but before its reply is delivered. What an act may be
is in `tests.fault.faults`; this module moves bytes. One thread, one selector; acts run in that thread: the world stands still meanwhile.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.fault import resp
from tests.fault.verbs import verb

Side = Literal["before", "after"]
READ: Final = 1 << 16
MOST_EVENTS: Final = 100_000  # kept since `arm`
LINGER: Final = 1.5  # seconds the upstream half of an abandoned connection is read on


@dataclass(frozen=True, slots=True)
class Event:
    """One command seen at one side of its execution. `number`: of this (role, verb, side) since the last `reset`."""

    role: str
    verb: str
    side: Side
    number: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Forward:
    """Go on as if nothing had happened."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection at both ends; a command that was not forwarded never is."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """The client's end is closed, the server does not notice: what it was sent, it still executes."""


@dataclass(frozen=True, slots=True)
class Deaf:
    """The connection stays open, but nothing the server says arrives any more. `at_once`: this command does not reach it either."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Go on after that many seconds; the server gets the command even if the client has gone away meanwhile."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The command is not executed, the client reads this error."""

    error: str


Verdict = Forward | Cut | HalfOpen | Deaf | Hold | Answer
FORWARD: Final = Forward()
Act = Callable[[Event], Verdict]


@dataclass(slots=True, eq=False)
class Rule:
    """Where to act (None: anywhere) and how; once. `fired` is set after the act."""

    act: Act
    role: str | None = None
    verb: str | None = None
    side: Side | None = None
    number: int | None = None
    fired: threading.Event = field(default_factory=threading.Event)
    event: Event | None = None

    def fits(self, event: Event) -> bool:
        wanted = (
            (self.role, event.role),
            (self.verb, event.verb),
            (self.side, event.side),
            (self.number, event.number),
        )
        return not self.fired.is_set() and all(want is None or want == is_ for want, is_ in wanted)


@dataclass(slots=True, eq=False)
class Connection:
    """A client, its line to the server, and what is between them."""

    client: socket.socket | None
    server: socket.socket | None
    pid: int
    role: str = ""
    commands: resp.Splitter = field(default_factory=resp.Splitter)
    replies: resp.Splitter = field(default_factory=resp.Splitter)
    waiting: deque[tuple[str, bytes | None]] = field(
        default_factory=deque
    )  # unanswered: the verb, and our own answer if there is one
    held_commands: deque[bytes] | None = None
    held_replies: deque[bytes] | None = None
    deaf: bool = False


class Proxy:
    """Listens at `path`, leads to the Unix socket `upstream`. Use as a context manager."""

    def __init__(self, path: Path, upstream: str) -> None:
        self.path, self.upstream = path, upstream
        self.url = f"unix://{path}"
        self.events: list[Event] = []
        self._numbers: dict[tuple[str, str, Side], int] = {}
        self._rules: list[Rule] = []
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._bell_in, self._bell_out = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._bell_out, selectors.EVENT_READ, lambda: self._bell_out.recv(READ))
        self._going = True
        self.broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._going = False
        self._bell_in.send(b"x")
        self._thread.join(10)
        for connection in list(self._connections):
            self._close(connection)
        for sock in (self._listener, self._bell_in, self._bell_out):
            sock.close()
        self._selector.close()

    # ------------------------------------------------------------------ what tests ask and order

    def arm(self, *rules: Rule) -> None:
        """Forget what was counted and the rules before; from now on these."""
        with self._lock:
            self._rules = list(rules)
            self.events = []
            self._numbers = {}

    def add(self, rule: Rule) -> None:
        """One more rule; counting goes on."""
        with self._lock:
            self._rules.append(rule)

    def disarm(self) -> None:
        with self._lock:
            self._rules = []

    def armed(self) -> bool | None:
        """Whether any rule still waits for its moment; None if there is no rule."""
        with self._lock:
            return any(not rule.fired.is_set() for rule in self._rules) if self._rules else None

    def seen(self, role: str, name: str, side: Side) -> int:
        """How many of these there were since `arm`."""
        with self._lock:
            return self._numbers.get((role, name, side), 0)

    def pids(self, role: str = "") -> set[int]:
        """Who is connected just now, in that role."""
        with self._lock:
            return {c.pid for c in self._connections if c.client is not None and role in ("", c.role)}

    def parked(self, role: str, name: str) -> int:
        """How many connections of the role wait for the answer of this (blocking) command and of nothing else."""
        with self._lock:
            return sum(
                1
                for c in self._connections
                if c.role == role and c.client is not None and [v for v, _ in c.waiting] == [name]
            )

    def holding(self) -> bool:
        """Whether something is still on its way because a rule held it."""
        with self._lock:
            return any(c.held_commands is not None or c.held_replies is not None for c in self._connections)

    def cut_all(self) -> None:
        """Every connection there is, at once."""
        with self._lock:
            for connection in list(self._connections):
                self._close(connection)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Have `do` called in the proxy's thread."""
        with self._lock:
            self._order += 1
            heapq.heappush(self._timers, (time.monotonic() + seconds, self._order, do))
        self._bell_in.send(b"x")

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while self._going:
                wait = self._timers[0][0] - time.monotonic() if self._timers else 1.0
                for key, _ in self._selector.select(max(0.0, min(wait, 1.0))):
                    with self._lock:
                        if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                            key.data()
                while self._timers and self._timers[0][0] <= time.monotonic():
                    _, _, do = heapq.heappop(self._timers)
                    with self._lock:
                        do()
        except BaseException as error:
            self.broken = error
            raise

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(5)
        pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.settimeout(5)
        try:
            server.connect(self.upstream)
        except OSError:  # the server is down: the client finds a connection closed at once
            client.close()
            server.close()
            return
        connection = Connection(client, server, pid, role_of(pid))
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._from_client(connection))
        self._selector.register(server, selectors.EVENT_READ, lambda: self._from_server(connection))

    def _from_client(self, connection: Connection) -> None:
        data = receive(connection.client)
        if not data:
            self._client_gone(connection)
            return
        for frame in connection.commands.feed(data):
            if connection.held_commands is not None:
                connection.held_commands.append(frame)
            else:
                self._command(connection, frame)

    def _command(self, connection: Connection, frame: bytes) -> None:
        name = verb(resp.words(frame))
        verdict = self._seen(connection, name, "before")
        match verdict:
            case Forward():
                self._forward(connection, name, frame)
            case Cut():
                self._close(connection)
            case HalfOpen():
                self._forward(connection, name, frame)
                self._close_client(connection)
            case Deaf():
                connection.deaf = True
            case Answer(error):
                connection.waiting.append((name, f"-{error}\r\n".encode()))
                self._flush_own(connection)
            case Hold(seconds):
                connection.held_commands = deque()
                self.later(seconds, lambda: self._release_commands(connection, name, frame))

    def _forward(self, connection: Connection, name: str, frame: bytes) -> None:
        if connection.server is not None and not connection.deaf:
            connection.waiting.append((name, None))
            if not send(connection.server, frame):
                self._close(connection)

    def _release_commands(self, connection: Connection, name: str, frame: bytes) -> None:
        held, connection.held_commands = connection.held_commands or deque(), None
        self._forward(connection, name, frame)
        for other in held:
            if connection.held_commands is not None:
                connection.held_commands.append(other)
            else:
                self._command(connection, other)
        if connection.client is None:
            self.later(LINGER, lambda: self._close(connection))

    def _from_server(self, connection: Connection) -> None:
        data = receive(connection.server)
        if not data:
            self._close(connection)
            return
        for frame in connection.replies.feed(data):
            if connection.held_replies is not None:
                connection.held_replies.append(frame)
            else:
                self._reply(connection, frame)

    def _reply(self, connection: Connection, frame: bytes) -> None:
        if connection.server is None:
            return
        name, _ = connection.waiting.popleft()
        verdict = (
            FORWARD if name in ("BLMOVE", "BLPOP") and resp.is_nil(frame) else self._seen(connection, name, "after")
        )
        match verdict:
            case Forward():
                self._deliver(connection, frame)
            case Cut() | Answer():
                self._close(connection)
            case HalfOpen():
                self._close_client(connection)
            case Deaf():
                connection.deaf = True
            case Hold(seconds):
                connection.held_replies = deque()
                self.later(seconds, lambda: self._release_replies(connection, frame))

    def _release_replies(self, connection: Connection, frame: bytes) -> None:
        held, connection.held_replies = connection.held_replies or deque(), None
        self._deliver(connection, frame)
        for other in held:
            if connection.held_replies is not None:
                connection.held_replies.append(other)
            else:
                self._reply(connection, other)

    def _deliver(self, connection: Connection, frame: bytes) -> None:
        if connection.client is not None and not connection.deaf and not send(connection.client, frame):
            self._close_client(connection)
        self._flush_own(connection)

    def _flush_own(self, connection: Connection) -> None:
        """Answers of ours wait for their turn behind the server's."""
        while connection.waiting and (frame := connection.waiting[0][1]) is not None:
            connection.waiting.popleft()
            if connection.client is not None and not connection.deaf:
                send(connection.client, frame)

    # ------------------------------------------------------------------ rules

    def _seen(self, connection: Connection, name: str, side: Side) -> Verdict:
        role = connection.role or "unknown"
        key = (role, name, side)
        self._numbers[key] = self._numbers.get(key, 0) + 1
        event = Event(role, name, side, self._numbers[key], connection.pid, time.monotonic())
        if len(self.events) < MOST_EVENTS:
            self.events.append(event)
        for rule in self._rules:
            if rule.fits(event):
                rule.event = event
                verdict = rule.act(event)
                rule.fired.set()
                return verdict
        return FORWARD

    # ------------------------------------------------------------------ ends

    def _client_gone(self, connection: Connection) -> None:
        """What the client sent and we hold is still on its way; without that the server's end closes too."""
        if connection.held_commands is None:
            self._close(connection)
        else:
            self._shut(connection.client)
            connection.client = None

    def _close_client(self, connection: Connection) -> None:
        self._shut(connection.client)
        connection.client = None
        self.later(LINGER, lambda: self._close(connection))

    def _close(self, connection: Connection) -> None:
        self._shut(connection.client)
        self._shut(connection.server)
        connection.client = connection.server = None
        connection.waiting.clear()
        self._connections.discard(connection)

    def _shut(self, sock: socket.socket | None) -> None:
        if sock is not None and sock.fileno() >= 0:
            self._selector.unregister(sock)
            sock.close()


def receive(sock: socket.socket | None) -> bytes:
    """What there is; nothing if the other end is gone."""
    try:
        return sock.recv(READ) if sock is not None else b""
    except OSError:
        return b""


def send(sock: socket.socket, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        sock.sendall(data)
        return True
    return False


def role_of(pid: int) -> str:
    """worker, steward, exporter … from the title of a process of jqd; producer for anybody else."""
    if pid == os.getpid():
        return "producer"
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return "gone"
    return title.split()[1] if title.startswith("jqd: ") else "producer"
