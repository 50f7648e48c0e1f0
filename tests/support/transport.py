"""A redis-py client (or fakeredis) as the transport of a `RedisQueue`, so that the conformance suite runs on both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from jobqueue.redis.server import classify


class ClientTransport:
    """See `jobqueue.redis.queue.Transport`. The client must not retry by itself."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def call(self, *args: Any) -> Any:
        try:
            return self.client.execute_command(*args)
        except (RedisError, OSError) as error:
            raise classify(error, "the test's server") from error

    def pipe(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise classify(error, "the test's server") from error
        return [classify(r, "the test's server") if isinstance(r, Exception) else r for r in replies]
