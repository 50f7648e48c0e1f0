"""`jqd --check`: is this file usable here? Settings, handlers and Redis are each looked at, and every fault is printed.

Runs as a process of its own, started by `supervisor.cli` with the file's path as argument and the command line's overrides
as JSON on standard input, because importing handlers runs other people's code. It starts nothing and changes nothing.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobqueue.errors import JobQueueError
from jobqueue.settings import CronEntry, QueueSettings, RedisSettings
from jobqueue.yamlfile import ConfigError, load_producer
from jobqueue.yamlschema import suggestion
from supervisor import roles, settings

EXIT_UNUSABLE = 78


@dataclass(frozen=True, slots=True)
class Checked:
    """What is left to look at when the file has been read, perhaps with faults."""

    faults: list[str]
    redis: RedisSettings | None
    queues: Mapping[str, QueueSettings]
    handlers: tuple[str, ...]
    cron: Mapping[str, CronEntry] = field(default_factory=dict)


def main() -> int:
    path, overrides = sys.argv[1], json.loads(sys.stdin.read() or "{}")
    read = read_file(path, os.environ, overrides)
    faults = [*read.faults, *handler_faults(read.handlers, read.queues, read.cron)]
    notes: list[str] = []
    if read.redis is not None:
        found, notes = redis_faults(read.redis)
        faults += found
    for line in faults:
        sys.stderr.write(f"{line}\n")
    for line in notes:
        sys.stderr.write(f"note: {line}\n")
    if faults:
        return EXIT_UNUSABLE
    where = settings.masked(read.redis.url) if read.redis else ""
    sys.stdout.write(f"{path}: fine; {len(read.handlers)} handler modules imported, Redis {where}\n")
    return 0


def read_file(path: str, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Checked:
    """The file's faults; handlers and Redis are known even if other sections are wrong."""
    try:
        loaded = settings.load(path, environ=environ, options=overrides)
    except ConfigError as error:
        faults = str(error).splitlines()
        try:
            redis, queues, handlers = load_producer(path, environ)
        except ConfigError:
            return Checked(faults, None, {}, ())
        return Checked(faults, None if overrides.get("addr") else redis, queues, handlers)
    return Checked([], loaded.redis, loaded.queues, loaded.handlers, loaded.cron)


def handler_faults(
    handlers: tuple[str, ...], queues: Mapping[str, QueueSettings], cron: Mapping[str, CronEntry]
) -> Iterator[str]:
    """What is wrong with each module, and which raw queues and cron entries name a type that none of them registers."""
    from jobqueue import registry

    broken = False
    for name in handlers:
        try:
            registry.load([name])
        except JobQueueError as error:
            broken = True
            cause = error.__cause__
            yield _told(error) + ("\n" + "".join(traceback.format_exception(cause)).rstrip() if cause else "")
        except Exception:  # noqa: BLE001 - other people's code
            broken = True
            yield f"handlers: {name!r} cannot be used\n{traceback.format_exc().rstrip()}"
    if handlers and not broken:
        known = registry.load([])
        for queue, entry in queues.items():
            if entry.handler is not None and known.get(entry.handler) is None:
                yield f"queues.{queue}.handler: none of the handlers is registered as {entry.handler!r}"
        for name, ticking in cron.items():
            if known.get(ticking.type) is None:
                near = suggestion(ticking.type, known.handlers)
                yield f"cron.{name}.type: none of the handlers is registered as {ticking.type!r}{near}"


def redis_faults(redis: RedisSettings) -> tuple[list[str], list[str]]:
    """(faults, notes). An embedded server is not started: only its program and its folder are looked at."""
    if redis.url.startswith("embedded:"):
        return list(_embedded_faults(redis)), []
    from jobqueue.redis import connect
    from jobqueue.redis.server import Server
    from jobqueue.redis.session import link

    server = Server(redis)
    try:
        if redis.url.partition("://")[0].endswith("+cluster"):
            opened = link(redis, {}, "jqd:check")  # every node is looked at
            opened.close()
            return [], list(opened.server.warnings)
        return [], list(connect.check_server(server.call, redis).warnings)
    except JobQueueError as error:
        return [f"redis: {_told(error)}"], []
    finally:
        server.close()


def _embedded_faults(redis: RedisSettings) -> Iterator[str]:
    from jobqueue import embedded
    from supervisor import server

    try:
        server.find_binary()
    except server.NoServer as error:
        yield f"redis: {error}"
    try:
        embedded.socket_path(redis.url)
    except embedded.SocketPathTooLong as error:
        yield f"redis.url: {error}"
    folder = os.path.abspath(embedded.folder(redis.url))
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        yield f"redis.url: {there} is not a folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"redis.url: the folder {there} cannot be written to by this user"


def _told(error: BaseException) -> str:
    return settings.masked(str(error))


if __name__ == "__main__":
    roles.run(main)
