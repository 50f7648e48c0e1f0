"""From `RedisSettings` to a redis-py client: every option that could resend, guess or re-route a command is off.

Not the hot connections of workers and steward: those are `jobqueue.redis.wire`. Used by `jobqueue.redis.server` alone, which owns
the client, knows when to build another one and turns redis-py's errors into ours.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any
from urllib.parse import parse_qsl, unquote

import redis
from redis import sentinel
from redis.backoff import NoBackoff
from redis.connection import (
    URL_QUERY_ARGUMENT_PARSERS,
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from jobqueue import address
from jobqueue.embedded import socket_path
from jobqueue.redis.tls import Tls
from jobqueue.settings import RedisSettings

UNSENT = "_jobqueue_unsent"
"""Attribute of an exception that was raised while connecting: the command has certainly not been sent."""

_FIXED_OPTIONS = frozenset(
    {"db", "retry_on_timeout", "retry_on_error", "protocol", "health_check_interval", "legacy_responses"}
)


def client(settings: RedisSettings) -> Any:
    """A redis-py client for this process. Connects on its first command, but asks Sentinels at once. Not of a Cluster: its nodes are
    reached by connections of our own (`jobqueue.redis.cluster`).

    `embedded:DIR` is the socket `DIR/redis.sock`. Raises ValueError for an address that cannot be read.
    """
    target = address.parse(settings.url)
    options = _options(settings, target)
    match target.scheme.rpartition("+")[2]:
        case "embedded":
            return _unix(socket_path(settings.url), options)
        case "unix":
            return _unix(target.place, options)
        case "sentinel":
            return _sentinel(target, options)
    host, port = target.hosts[0]
    kind = _telling(SSLConnection if target.scheme == "rediss" else Connection)
    return redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=kind, host=host, port=port, **_tcp(options))
    )


def dialled(settings: RedisSettings) -> Any:
    """The same; errors of Sentinels that do not answer say that nothing was sent."""
    try:
        return client(settings)
    except Exception as error:
        setattr(error, UNSENT, True)
        raise


def _options(settings: RedisSettings, target: address.Address) -> dict[str, Any]:
    """What holds for every kind of connection. A resent command is a doubled job: no retries of any kind, and RESP2 keeps pushes away."""
    user, password, query = _credentials(settings.url)
    options = {name: _read_option(name, text) for name, text in query if name not in _FIXED_OPTIONS}
    options |= {
        "db": target.db,
        "username": options.get("username", user),
        "password": options.get("password", password),
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.socket_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "health_check_interval": 0,
    }
    if target.scheme.startswith("rediss"):
        # The same strictness as a Wire's, whatever this redis-py's own defaults are.
        tls = Tls.of(dict(query))
        options |= {"ssl_check_hostname": tls.check_hostname, "ssl_cert_reqs": "required" if tls.verify else "none"}
        tls.context(address.masked(settings.url))  # a missing file is said by its name
    return options | _silence()


def _read_option(name: str, text: str) -> Any:
    parser: Any = URL_QUERY_ARGUMENT_PARSERS.get(name, str)
    return parser(text)


def _silence() -> dict[str, Any]:
    """No CLIENT SETINFO (a trip more to connect, and a permission more) and no maintenance pushes, in the words of this redis-py."""
    known = inspect.signature(AbstractConnection.__init__).parameters
    if "maint_notifications_config" in known:
        from redis.maint_notifications import MaintNotificationsConfig

        pushes = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
    else:
        pushes = {}
    names = ("driver_info",) if "driver_info" in known else ("lib_name", "lib_version")
    return pushes | dict.fromkeys(names)


def _tcp(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"socket_keepalive": True}


def _unix(path: str, options: dict[str, Any]) -> Any:
    kind = _telling(UnixDomainSocketConnection)
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind, path=path, **options))


def _sentinel(target: address.Address, options: dict[str, Any]) -> Any:
    tls = target.scheme.startswith("rediss")
    like = ("socket_connect_timeout", "socket_timeout", "retry", "protocol")
    asking = {name: value for name, value in options.items() if name in like or name.startswith("ssl_")}
    for own in ("username", "password"):
        asking[own] = options.pop(f"sentinel_{own}", None)
    asking |= _silence() | ({"ssl": True} if tls else {})
    group = sentinel.Sentinel(list(target.hosts), sentinel_kwargs=asking, **_tcp(options))  # type: ignore[no-untyped-call]
    kind = sentinel.SentinelManagedSSLConnection if tls else sentinel.SentinelManagedConnection
    return group.master_for(target.place, connection_class=_telling(kind))  # type: ignore[no-untyped-call]


def _credentials(url: str) -> tuple[str | None, str | None, list[tuple[str, str]]]:
    """User, password and options of a URL. The password may hold a bare '@', '/' or '#': it ends at the last '@'."""
    rest, _, query = url.partition("://")[2].partition("?")
    userinfo, at, _ = rest.rpartition("@")
    user, _, password = userinfo.partition(":")
    if not at:
        user = password = ""
    return unquote(user) or None, unquote(password) or None, parse_qsl(query)


@functools.cache
def _telling(kind: Any) -> Any:
    """`kind`, but an error raised while it connects says so: then nothing was sent, and the caller may simply try again."""

    class Telling(kind):  # type: ignore[misc]
        def connect(self) -> None:
            try:
                super().connect()
            except Exception as error:
                setattr(error, UNSENT, True)
                raise

    Telling.__name__ = kind.__name__
    return Telling
