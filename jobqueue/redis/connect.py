"""From `redis.url` to an Endpoint: where the server is and how to greet it. Pure.

Also what a server must be like before jobs are trusted to it (`check_server`). The password never appears in `shown`,
which is what errors and logs use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote

from jobqueue import address
from jobqueue.embedded import socket_path
from jobqueue.errors import InvalidJob, ServerRefused, UnsafeServer
from jobqueue.redis.scripts import parse_version
from jobqueue.redis.tls import Tls
from jobqueue.settings import RedisSettings

OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server. `path` set: a Unix socket. `shown`: for messages, without secrets."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    user: str = ""
    password: str = ""
    tls: Tls | None = None
    connect_timeout: float = 2.0

    @property
    def shown(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


class BadUrl(InvalidJob):
    """`redis.url` cannot be understood."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"redis.url: {problem}",
            "Write redis://[user:password@]host:port/db, rediss://…, unix:///path or embedded:DIR.",
        )


def credentials(url: str) -> tuple[str, str, dict[str, str]]:
    """User, password and query options of a URL. The password may hold a bare '@', '/' or '#': it ends at the last
    '@'."""
    rest, _, query = url.partition("://")[2].partition("?")
    userinfo, at, _ = rest.rpartition("@")
    user, _, password = userinfo.partition(":") if at else ("", "", "")
    return unquote(user), unquote(password), dict(parse_qsl(query))


def endpoint(settings: RedisSettings) -> Endpoint:
    """Where `settings.url` points. Raises BadUrl, embedded.SocketPathTooLong."""
    try:
        found = address.parse(settings.url)
    except ValueError as error:
        raise BadUrl(str(error)) from None
    timeout = settings.connect_timeout
    if found.scheme == "embedded":
        return Endpoint(path=socket_path(settings.url), connect_timeout=timeout)
    user, password, options = credentials(settings.url)
    if found.scheme == "unix":
        return Endpoint(path=found.place, db=found.db, user=user, password=password, connect_timeout=timeout)
    # Of a Sentinel group or a Cluster this is how to greet its servers; which one is meant, Sentinels or nodes say.
    host, port = found.hosts[0]
    tls = Tls.of(options) if found.scheme.startswith("rediss") else None
    return Endpoint(host, port, "", found.db, user, password, tls, timeout)


def sentinel_endpoint(settings: RedisSettings) -> Endpoint:
    """How to greet a Sentinel: its own user and password (sentinel_username, sentinel_password), the same TLS."""
    options = credentials(settings.url)[2]
    user, password = options.get("sentinel_username", ""), options.get("sentinel_password", "")
    return replace(endpoint(settings), db=0, user=user, password=password)


@dataclass(frozen=True, slots=True)
class Server:
    """What a server said of itself. `warnings`: sentences for the log. `may_unblock`: whether parked calls can be
    ended at will."""

    version: tuple[int, ...]
    run_id: str
    warnings: tuple[str, ...]
    may_unblock: bool = True


def parse_info(text: bytes | str) -> dict[str, str]:
    """INFO's `name:value` lines as a dict."""
    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def check_server(call: Callable[..., Any], settings: RedisSettings) -> Server:
    """Ask the server what it is. Raises UnsafeServer if it would lose jobs, ServerRefused, Unavailable."""
    warnings = []
    try:
        info = parse_info(call("INFO"))
    except ServerRefused as refused:
        if not forbidden(refused):
            raise
        info = {}
        warnings.append("INFO is not permitted: version, persistence and eviction policy are not checked")
    version = parse_version(info.get("redis_version", "7.0"))
    if version < OLDEST:
        raise UnsafeServer(f"Redis {info.get('redis_version')} is too old", "jqd needs Redis 6.2 or newer, or Valkey")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not settings.allow_eviction:
        raise UnsafeServer(
            f"Redis evicts keys when memory is full (maxmemory-policy {policy}), which removes jobs silently",
            "Set `maxmemory-policy noeviction` in redis.conf, or allow_eviction: true under redis: if you accept that",
        )
    if info and info.get("aof_enabled") == "0" and info.get("role") == "master":
        warnings.append("persistence: appendonly is off, so a crash of Redis loses accepted jobs; set `appendonly yes`")
    may_unblock = all(_permitted(call, *command) for command in (("CLIENT", "ID"), ("CLIENT", "UNBLOCK", 0)))
    if not may_unblock:
        warnings.append(
            "CLIENT ID or CLIENT UNBLOCK is not permitted: idle workers look at all but their first queue only once a second"
        )
    return Server(version, info.get("run_id", ""), tuple(warnings), may_unblock)


def forbidden(refused: ServerRefused) -> bool:
    """Whether a command is not for us: by ACL, or because a managed server has taken or renamed it away."""
    return refused.code == "NOPERM" or refused.message.lower().startswith("err unknown command")


def _permitted(call: Callable[..., Any], *command: Any) -> bool:
    try:
        call(*command)
    except ServerRefused as refused:
        if not forbidden(refused):
            raise
        return False
    return True
