"""Everything the file says, as frozen data: pools, HTTP, shutdown, log, and the queues, cron entries and Redis of `jobqueue.settings`.

It reads nothing itself: `load` hands over to `supervisor.configfile`, which does. The master loads settings and sends them
to every role as JSON in a sealed memfd (`encode`, `decode`). Durations are float seconds, sizes are int bytes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from jobqueue import address
from jobqueue.settings import (
    CronEntry,
    Duration,
    Positive,
    PositiveDuration,
    QueueSettings,
    RedisSettings,
    Secret,
    Size,
    Text,
)
from jobqueue.settings import settings_of as _settings_of

MAX_PROCESSES = 1024
"""Rows of the scoreboard: worker processes of all pools, with those a reload starts beside them, never exceed it."""


class Pool(Struct, frozen=True, kw_only=True):
    """Workers that serve the same queues: in strict order, or by weights (one a queue, in the same order)."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}$", extra={"words": "a name: up to 32 of a-z, 0-9, _ and -"})]
    processes: Positive = 1
    queues: tuple[Text, ...]
    weights: Annotated[tuple[int, ...] | None, Meta(extra={"derived": True})] = None
    claim_budget: Annotated[float, Meta(ge=0, le=0.02, extra={"unit": "duration"})] = 0.005
    """At most 20 ms: what is held behind a job is handed back after 25 (see `supervisor.stewardship`)."""
    claim_max: Annotated[int, Meta(ge=1, le=1000)] = 64
    """At most 1,000: a script moves that many at once, and Lua's stack ends at some thousands."""
    max_jobs: Positive | None = None
    max_memory: Size | None = None
    max_memory_hard: Size | None = None
    max_age: PositiveDuration | None = None
    nice: Annotated[int, Meta(ge=-20, le=19)] | None = None
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    preload: bool = True
    start_timeout: PositiveDuration = 60.0
    hang_timeout: PositiveDuration = 60.0


class Http(Struct, frozen=True):
    """The exporter. `listen=None` switches it off; `hosts` are further names a browser may address it by."""

    listen: str | None = "127.0.0.1:2112"
    token: Secret = ""
    hosts: tuple[Text, ...] = ()


class Shutdown(Struct, frozen=True):
    """A drain aborts what still runs after `drain_timeout`; an aborted job is killed `abort_grace` later."""

    drain_timeout: Duration = 30.0
    abort_grace: Duration = 2.0


class Log(Struct, frozen=True):
    """`auto` is pretty on a terminal, entries in systemd's journal, JSON lines otherwise; `file=None` is standard error."""

    format: Literal["auto", "pretty", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    file: Text | None = None


class Settings(Struct, frozen=True):
    """The whole file, with environment and options already applied."""

    pools: tuple[Pool, ...]
    redis: RedisSettings = RedisSettings()
    handlers: tuple[Text, ...] = ()
    queues: dict[str, QueueSettings] = {}
    cron: dict[str, CronEntry] = {}
    http: Http = Http()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()
    pidfile: Text | None = None

    def queue(self, name: str) -> QueueSettings:
        """What holds for queue `name`, whether or not the file lists it."""
        return _settings_of(self.queues, name)


def encode(settings: Settings) -> bytes:
    """Settings as JSON, secrets included: for a memfd between our own processes, never for a log."""
    return msgspec.json.encode(settings)


def decode(data: bytes) -> Settings:
    """The inverse of `encode`. Raises msgspec.ValidationError if the bytes are not ours."""
    return msgspec.json.decode(data, type=Settings)


def masked(url: str) -> str:
    """`url` with its password replaced by `***`: what may be logged, shown in a title or in an error."""
    return address.masked(url)


def same_server(a: RedisSettings, b: RedisSettings) -> bool:
    """Whether both name the same keys on the same server: a reload may change credentials and timeouts, nothing else."""
    return a.key_prefix == b.key_prefix and address.same_server(a.url, b.url)


def host_port(listen: str) -> tuple[str, int]:
    """`127.0.0.1:2112`, `[::1]:2112`, `:2112` (every interface) as (host, port). Raises ValueError saying what is wrong."""
    host, colon, port = listen.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("expected HOST:PORT with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address goes in brackets, as in [::1]:2112")
    if any(c.isspace() or c in "/@" for c in host):
        raise ValueError("expected HOST:PORT, with a plain host name or address")
    return host or "0.0.0.0", int(port)


def load(path: str, *, environ: Mapping[str, str], options: Mapping[str, Any] | None = None) -> Settings:
    """Read, check and complete the file at `path`. Precedence: options, environment, file, defaults.

    `options` may hold `addr`, `concurrency`, `metrics_addr`, `log_level`; None means not given.
    Raises jobqueue.yamlfile.ConfigError, whose text lists every fault, one a line, as `file:line:col: path: …`.
    """
    from supervisor import configfile

    return configfile.load(path, environ=environ, options=options or {})


def secrets(settings: Settings) -> tuple[str, ...]:
    """What no line of a log may contain: the token, and the password of Redis as written and as decoded."""
    password = address.password(settings.redis.url)
    return tuple(secret for secret in (settings.http.token, *password) if secret)
