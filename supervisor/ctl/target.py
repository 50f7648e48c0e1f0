"""Which Redis is meant, and what the config file says of its queues: `-c FILE`, `--addr URL`, before or after the subcommand.

Order: option, environment (REDIS_URL, JQ_REDIS_ADDR), file. Not here: anything that asks Redis; connections are opened on first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobqueue import address
from jobqueue.settings import QueueSettings, RedisSettings

if TYPE_CHECKING:
    from jobqueue.client import JobQueue
    from jobqueue.redis.browse import Browser
    from jobqueue.redis.inspect import Inspector
    from jobqueue.redis.operate import Operator

F = TypeVar("F", bound=Callable[..., Any])
PLACES = ("config/jobqueue.yaml", "/etc/jqd/jobqueue.yaml")


@dataclass
class Target:
    """What the options said, and what follows from it."""

    config: str | None = None
    addr: str | None = None
    _found: list[Any] = field(default_factory=list)

    @cached_property
    def path(self) -> str | None:
        """The file, if there is one."""
        named = self.config or os.environ.get("JQD_CONFIG")
        return named or next((place for place in PLACES if Path(place).exists()), None)

    @cached_property
    def settings(self) -> tuple[RedisSettings, dict[str, QueueSettings]]:
        """Raises click.UsageError, or ConfigError with every fault of the file."""
        environ = dict(os.environ)
        if self.addr is not None:
            environ |= {"JQ_REDIS_ADDR": self.addr}
        given = environ.get("JQ_REDIS_ADDR") or environ.get("REDIS_URL")
        if self.path is not None:
            from jobqueue.yamlfile import load_producer

            found = load_producer(self.path, environ)
            return found.redis, found.queues
        if not given:
            raise click.UsageError(
                f"No Redis given: use --addr URL, -c FILE or REDIS_URL (there is no {' and no '.join(PLACES)})."
            )
        try:
            address.parse(address.complete(given))
        except ValueError as error:
            raise click.UsageError(f"The address of Redis: {error}") from None
        return RedisSettings(url=address.complete(given)), {}

    @cached_property
    def queue(self) -> JobQueue:
        from jobqueue.client import JobQueue

        redis, queues = self.settings
        return JobQueue(redis=redis, queues=queues)

    @cached_property
    def inspector(self) -> Inspector:
        from jobqueue.redis.inspect import Inspector

        return Inspector(*self.settings)

    @cached_property
    def browser(self) -> Browser:
        from jobqueue.redis.browse import Browser

        return Browser(self.inspector)

    @cached_property
    def operator(self) -> Operator:
        from jobqueue.redis.operate import Operator

        return Operator(self.browser)


def targeted(function: F) -> F:
    """Add `-c` and `--addr` to a command (or to the group); the innermost one given counts."""

    def keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            setattr(context.ensure_object(Target), str(parameter.name), value)

    config = click.option(
        "-c", "--config", metavar="FILE", expose_value=False, callback=keep, help="The file jqd runs with."
    )
    addr = click.option(
        "--addr", metavar="URL|HOST:PORT", expose_value=False, callback=keep, help="Redis, instead of the file's."
    )
    return config(addr(function))


pass_target = click.make_pass_decorator(Target, ensure=True)
