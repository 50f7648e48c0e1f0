"""One Redis server as producers, the exporter and jqctl use it: redis-py connections, rebuilt after a fork, and honest errors.

Thread-safe. A `Transport` of `jobqueue.redis.queue`. Not for workers and steward, who use `jobqueue.redis.wire`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import hiredis
import redis
from redis import exceptions as raised

from jobqueue import address
from jobqueue.errors import JobQueueError, ServerRefused, Unavailable
from jobqueue.redis import dial, scripts
from jobqueue.redis.connect import parse_info
from jobqueue.redis.tls import SILENT, explained, hinted
from jobqueue.settings import RedisSettings

if TYPE_CHECKING:
    from jobqueue.redis.cluster.tools import Nodes

Command: TypeAlias = Sequence[Any]
_IDLE = 0.02  # seconds after which a connection is looked at before it is used

# Older redis-py cuts the code off the message and keeps it in the class alone. AuthenticationError and BusyLoadingError are
# ConnectionErrors to redis-py, but an answer is an answer: the server is there.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (raised.AuthenticationError, "WRONGPASS"),
    (raised.AuthorizationError, "NOPERM"),
    (raised.BusyLoadingError, "LOADING"),
    (raised.NoPermissionError, "NOPERM"),
    (raised.NoScriptError, "NOSCRIPT"),
    (raised.OutOfMemoryError, "OOM"),
    (raised.ReadOnlyError, "READONLY"),
    (raised.ExecAbortError, "EXECABORT"),
    (raised.MasterDownError, "MASTERDOWN"),
    (raised.ClusterDownError, "CLUSTERDOWN"),
    (raised.TryAgainError, "TRYAGAIN"),
    (raised.ClusterCrossSlotError, "CROSSSLOT"),
)
_MAX_CLIENTS = "max number of clients reached"


def classify(error: Exception, where: str) -> JobQueueError:
    """What redis-py raised, as ours: ServerRefused if the server answered, else Unavailable (outcome unknown if `sent`)."""
    text = address.masked(str(error))
    if isinstance(error, JobQueueError):
        return error
    code: str | None = getattr(error, "status_code", None)
    answered = isinstance(error, raised.ResponseError) or code is not None
    for kind, word in _CODES:
        if code is None and isinstance(error, kind):
            code, answered = word, True
            break
    if answered and _MAX_CLIENTS not in text:
        return ServerRefused(text if code is None or text.startswith(f"{code} ") else f"{code} {text}", where)
    if (tls := explained(error, where)) is not None:
        return tls
    if where.startswith("rediss"):
        text = SILENT if isinstance(error, raised.TimeoutError) and hasattr(error, dial.UNSENT) else hinted(error, text)
    sent = not getattr(error, dial.UNSENT, False) and not isinstance(error, redis.sentinel.MasterNotFoundError)
    return Unavailable(where, text or type(error).__name__, sent=sent)


def _packed(commands: Sequence[Command]) -> list[bytes]:
    # redis-py looks at every argument's type first, which costs more than all the rest.
    return [b"".join([hiredis.pack_command(tuple(command)) for command in commands])]


def _closed(connection: Any) -> bool:
    """Whether the server has closed a connection (or said something nobody asked for) since its last use."""
    try:
        return connection._sock is not None and bool(connection.can_read(0))
    except (raised.RedisError, OSError):
        return True


def _nodes(settings: RedisSettings) -> Nodes | None:
    """Of a Cluster: our own connections to its nodes, with no redis-py in between. Imported only then."""
    if not settings.url.partition("://")[0].endswith("+cluster"):
        return None
    from jobqueue.redis.cluster.tools import Nodes

    return Nodes(settings)


class _Line(threading.local):
    """One thread's own connection. A pool would be asked twice a command, which costs as much as the command."""

    connection: Any = None
    client: Any = None
    used: float = 0.0


class Server:
    """Connections belong to one thread of one process: a socket shared over a fork would swap replies between parent and child."""

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.where = address.masked(settings.url)
        self._client: Any = None
        self._pid = 0
        self._line = _Line()
        self._version: tuple[Any, tuple[int, ...]] | None = None
        self._epoch = 0
        self._nodes = _nodes(settings)

    @property
    def epoch(self) -> int:
        """Grows with every new connection: what was learnt from the server before may not hold any more."""
        return self._epoch if self._nodes is None else self._nodes.epoch

    def client(self) -> Any:
        """The redis-py client of this process. Raises Unavailable if no Sentinel answers."""
        if self._pid != os.getpid():
            with self.errors():
                # No lock: held by another thread while the parent forks, it would stay shut in the child. Two threads at once build two.
                fresh = dial.dialled(self.settings)
            self._client, self._pid, self._line = fresh, os.getpid(), _Line()
        return self._client

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Inside, redis-py's errors become Unavailable or ServerRefused."""
        try:
            yield
        except (raised.RedisError, raised.RedisClusterException, OSError, ValueError) as error:
            raise classify(error, self.where) from error

    def call(self, *command: Any) -> Any:
        """One command and its reply as it came: bytes, ints, flat lists."""
        if self._nodes is not None:
            return self._nodes.call(*command)
        try:
            connection = self._connection()
            connection.send_packed_command((hiredis.pack_command(command),), check_health=False)
            return connection.read_response()
        except (raised.RedisError, raised.RedisClusterException, OSError) as error:
            raise classify(error, self.where) from error

    def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """All in one round trip, on one connection. A refused command's place holds ServerRefused; only a lost connection raises."""
        if not commands:
            return []
        if self._nodes is not None:
            return self._nodes.pipe(commands)
        with self.errors():
            connection = self._connection()
            connection.send_packed_command(_packed(commands), check_health=False)
            return [self._reply(connection) for _ in commands]

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """All of them or none, as one transaction, in one round trip. Raises ServerRefused for the first that is refused."""
        whole = [("MULTI",), *commands, ("EXEC",)]
        answers = self.pipe(whole) if self._nodes is None else self._nodes.together(commands)
        for answer in answers:
            if isinstance(answer, ServerRefused):
                raise answer
        for answer in answers[-1]:
            if isinstance(answer, Exception):
                raise classify(answer, self.where)
        return list(answers[-1])

    def run(self, verb: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run `lua/VERB.lua`; sent as a whole only if the server does not know it yet (a refused EVALSHA has done nothing)."""
        script = scripts.load(verb, self.version())
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except ServerRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        return self.call("EVAL", script.source, len(keys), *keys, *args)

    def version(self) -> tuple[int, ...]:
        """The server's version as Redis counts (Valkey tells the one it is compatible with), asked once; of a Cluster the oldest."""
        client = self.client() if self._nodes is None else self._nodes.wire()
        if self._version is None or self._version[0] is not client:
            self._version = client, min(self._versions(), default=scripts.FLAGS_SINCE)
        return self._version[1]

    def _versions(self) -> Iterator[tuple[int, ...]]:
        for _, said in self.each("INFO", "server"):
            if isinstance(said, ServerRefused) and said.code not in ("NOPERM", "CLUSTERDOWN"):
                raise said
            if not isinstance(said, JobQueueError):
                yield scripts.parse_version(parse_info(said).get("redis_version", "7.0"))

    def each(self, *command: Any) -> list[tuple[str, Any]]:
        """One command to every server there is, masters of a Cluster: (where, its reply, or why there is none). Of one server alone only a
        refusal is told like that. Raises Unavailable."""
        if self._nodes is not None:
            return self._nodes.each(*command)
        return [(self.where, self._one(command))]

    def connect(self) -> None:
        """Open this thread's connection if it is not open. Raises Unavailable with `sent` False, ServerRefused."""
        if self._nodes is not None:
            self._nodes.wire()
            return
        with self.errors():
            self._connection()

    def close(self) -> None:
        """Close this process's connections; the next command opens new ones."""
        if self._nodes is not None:
            self._nodes.close()
            return
        client, owner, connection = self._client, self._pid, self._line.connection
        self._client, self._pid, self._line = None, 0, _Line()
        if client is not None and owner == os.getpid():
            if connection is not None:
                connection.disconnect()
            client.close()

    def _connection(self) -> Any:
        """This thread's connection, connected and with nothing to read."""
        client, line = self.client(), self._line
        now = time.monotonic()
        if line.client is not client:
            pool = getattr(client, "connection_pool", None)
            line.client, line.connection = client, pool and pool.make_connection()
        elif line.connection is not None and now - line.used > _IDLE and _closed(line.connection):
            # Known before anything is sent, so nobody needs to worry about it.
            line.connection.disconnect()
        line.used = now
        if line.connection is not None and not line.connection._sock:
            line.connection.connect()
            self._epoch += 1
        return line.connection

    def _one(self, command: Command) -> Any:
        try:
            return self.call(*command)
        except ServerRefused as refused:
            return refused

    def _reply(self, connection: Any) -> Any:
        try:
            return connection.read_response()
        except raised.ResponseError as error:
            return classify(error, self.where)
