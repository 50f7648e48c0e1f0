"""What a file may say about Redis and about queues: frozen data, checked types, nothing else.

This is not where files are read (`jobqueue.yamlfile`) and not what a process does with them. Everybody imports it:
producers, workers, the steward, and `supervisor.settings`, which adds pools and the rest.

Durations are float seconds, sizes are int bytes. The bounds in the annotations are enforced twice: by the reader of the
YAML file, with positions, and by msgspec when settings travel between processes.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

Duration = Annotated[float, Meta(ge=0, extra={"unit": "duration"})]
PositiveDuration = Annotated[float, Meta(gt=0, extra={"unit": "duration"})]
Size = Annotated[int, Meta(gt=0, extra={"unit": "size"})]
Positive = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
Secret = Annotated[str, Meta(extra={"secret": True})]
Json = Annotated[str, Meta(extra={"unit": "any JSON value"})]
"""A value of the file, written down as JSON again: settings stay plain data that compare and travel."""

EVERY_QUEUE = "*"
"""The entry under `queues:` whose values hold for every queue that does not say otherwise."""


class Backoff(Struct, frozen=True):
    """How long a failed job waits: `min(max, base * factor ** (attempt - 1))` seconds, with full jitter or none."""

    base: PositiveDuration = 1.0
    factor: Annotated[float, Meta(ge=1)] = 2.0
    max: PositiveDuration = 3600.0
    jitter: Literal["full", "none"] = "full"


class QueueSettings(Struct, frozen=True):
    """One queue. The hard limit of a job is `time_limit + kill_after`; `time_limit=None` means no limit at all."""

    max_attempts: Positive = 25
    time_limit: PositiveDuration | None = 300.0
    kill_after: PositiveDuration = 5.0
    backoff: Backoff = Backoff()
    max_length: Positive | None = None
    max_crashes: Positive = 3
    key: Text | None = None
    """A foreign queue: its ready list is exactly this Redis key, so that any program may LPUSH to it."""
    codec: Literal["json", "raw"] = "json"
    handler: Text | None = None
    """The job type that gets every element of a raw queue."""
    dead_max: Annotated[int, Meta(ge=0)] = 100_000
    dead_ttl: PositiveDuration | None = None


class CronEntry(Struct, frozen=True):
    """A job by the clock. `queue=None`: the raw queue of that handler, else `default`; who reads a file fills it in.

    `catch_up`: of ticks that were missed the last one is made up for, however late, or it is not, when it is a minute late.
    """

    schedule: Text
    type: Text
    payload: Json = "{}"
    queue: Text | None = None
    timezone: Text = "UTC"
    catch_up: Literal["last", "none"] = "last"
    unique: Text | None = None
    max_attempts: Positive | None = None


class RedisSettings(Struct, frozen=True):
    """Where Redis is and what is asked of it. `appendfsync` and `maxmemory` are for the embedded server alone."""

    url: Secret = "embedded:var/redis"
    key_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]+$", extra={"words": "letters, digits and . : _ -"})] = (
        "jq"
    )
    allow_eviction: bool = False
    durability: Literal["none", "replica", "fsync"] = "none"
    socket_timeout: PositiveDuration = 5.0
    connect_timeout: PositiveDuration = 2.0
    appendfsync: Literal["always", "everysec", "no"] = "everysec"
    maxmemory: Size | None = None


def settings_of(queues: Mapping[str, QueueSettings], name: str) -> QueueSettings:
    """What holds for queue `name`: its own entry, else the entry `*`, else the built-in defaults."""
    return queues.get(name) or queues.get(EVERY_QUEUE) or QueueSettings()
