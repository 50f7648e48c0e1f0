"""From a cron entry and its tick to the job that goes in. Pure but for the new id.

Not when it ticks (`jobqueue.cron`). Called by the steward for a tick, and by whoever reads a file, to see whether
such a job could be at all; its parts by `jqctl cron run`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from jobqueue.cron import Schedule
from jobqueue.draft import Options, draft
from jobqueue.port import NewJob
from jobqueue.settings import CronEntry, QueueSettings, settings_of

DEFAULT = "default"


def queue_of(entry: CronEntry, queues: Mapping[str, QueueSettings]) -> str:
    """Where its jobs go: the queue it names, else the raw queue of that handler, else `default`."""
    if entry.queue is not None:
        return entry.queue
    raw = (name for name, one in queues.items() if one.codec == "raw" and one.handler == entry.type)
    return next(raw, DEFAULT)


def schedule_of(entry: CronEntry) -> Schedule:
    return Schedule(entry.schedule, entry.timezone)


def headers_of(name: str, entry: CronEntry, queues: Mapping[str, QueueSettings], tick_ms: int) -> dict[str, str] | None:
    """Which entry a job is of, and the time it was due. None on a raw queue: the element is the text and nothing else, if it can be."""
    if settings_of(queues, queue_of(entry, queues)).codec == "raw":
        return None
    return {"cron": name, "tick": schedule_of(entry).local(tick_ms).isoformat()}


def job_of(name: str, entry: CronEntry, queues: Mapping[str, QueueSettings], tick_ms: int, now_ms: int) -> NewJob:
    """The job of that tick. Its headers say which entry it is of, and the time it was due. Raises InvalidJob."""
    queue, headers = queue_of(entry, queues), headers_of(name, entry, queues, tick_ms)
    options = Options(unique=entry.unique, max_attempts=entry.max_attempts, headers=headers)
    return draft(entry.type, msgspec.json.decode(entry.payload), queue, settings_of(queues, queue), options, now_ms)
