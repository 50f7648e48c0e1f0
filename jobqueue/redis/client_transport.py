"""A redis-py client as a Transport: turns its exceptions into the library's own, on purpose and one by one.

Used by producers and tools; workers and stewards use `wire.Wire`. Source of the classes: redis.exceptions, where BusyLoadingError and
AuthenticationError are subclasses of ConnectionError although the server did answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, RedisError, ResponseError

from jobqueue.errors import ServerRefused, Unavailable

# redis-py strips the code from some answers when it picks a class for them; this puts it back.
CODES = {
    "BusyLoadingError": "LOADING",
    "NoScriptError": "NOSCRIPT",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "AuthenticationWrongNumberOfArgsError": "ERR",
    "AuthenticationError": "WRONGPASS",
    "AuthorizationError": "NOAUTH",
    "ModuleError": "ERR",
    "ExecAbortError": "EXECABORT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "TryAgainError": "TRYAGAIN",
}


def classify(error: Exception, where: str) -> ServerRefused | Unavailable:
    """The library's error for one of redis-py's (or of the socket's)."""
    answered = isinstance(error, (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError))
    if not answered:
        return Unavailable(where, error)
    text, code = str(error), CODES.get(type(error).__name__)
    if code and not text.startswith(code):
        text = f"{code} {text}"
    return ServerRefused(text, where)


class ClientTransport:
    """See `jobqueue.redis.queue.Transport`."""

    def __init__(self, client: redis.Redis, where: str = "") -> None:
        self.client, self.where = client, where

    def call(self, *args: Any) -> Any:
        """One command."""
        try:
            return self.client.execute_command(*args)
        except (RedisError, OSError) as error:
            raise classify(error, self.where) from error

    def pipe(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Several in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise classify(error, self.where) from error
        return [classify(reply, self.where) if isinstance(reply, Exception) else reply for reply in replies]
