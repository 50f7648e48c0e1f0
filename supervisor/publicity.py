"""What a steward and everybody else tell each other through Redis: which queues there are, and what each host does.

No duties towards jobs (`supervisor.stewardship`): losing all of this loses nothing. Called by the steward's process, over
its connection.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec

from jobqueue.errors import ServerRefused, Unavailable
from jobqueue.redis.keys import host_key, queues_key
from jobqueue.redis.session import Link
from jobqueue.settings import EVERY_QUEUE, QueueSettings, settings_of
from supervisor.roles import Start
from supervisor.scoreboard import Row
from supervisor.settings import Settings

if TYPE_CHECKING:
    from jobqueue.redis.cluster.session import ClusterLink

SNAPSHOT_TTL: Final = 15  # seconds
SHOWN: Final = ("pid", "generation", "ready", "queue", "held", "done", "job_id", "type", "running_seconds")


@contextlib.contextmanager
def _comfort(link: Link | ClusterLink) -> Iterator[None]:
    """What only dashboards need must not keep a steward from its duties: when the server's memory is full, or when in a Cluster the shard
    of these keys is away."""
    try:
        yield
    except (Unavailable, ServerRefused) as error:
        if not link.apart and not (isinstance(error, ServerRefused) and error.code == "OOM"):
            raise


def configured_queues(settings: Settings) -> list[str]:
    """Those that the file names: of pools, and with an entry of their own."""
    named = [queue for pool in settings.pools for queue in pool.queues]
    return list(dict.fromkeys([*named, *(queue for queue in settings.queues if queue != EVERY_QUEUE)]))


def make_known(link: Link | ClusterLink, settings: Settings) -> None:
    """Tell everybody of the queues of our file."""
    with _comfort(link):
        link.queue.register(configured_queues(settings))


def all_queues(
    link: Link | ClusterLink, settings: Settings, known: Mapping[str, QueueSettings]
) -> dict[str, QueueSettings]:
    """Queues of the settings, and those that others made known (if that cannot be read now, what is `known`); a foreign one's ready list is
    learned on the way."""
    found = {queue: settings.queue(queue) for queue in configured_queues(settings)}
    members: list[bytes] | None = None
    with _comfort(link):
        members = link.wire.call("SMEMBERS", queues_key(settings.redis.key_prefix))
    if members is None:
        return found | dict(known)
    for member in members:
        name, equals, key = member.decode("utf-8", "replace").partition("=")
        if name and name not in found and not set("{}") & set(name + key):
            found[name] = settings_of(settings.queues, name)
            if equals:
                found[name] = msgspec.structs.replace(found[name], key=key)
                link.queue.settings[name] = found[name]
    return found


def publish_host(link: Link | ClusterLink, settings: Settings, start: Start, rows: Iterable[Row], at_ms: int) -> None:
    """What this host does, for dashboards: a string that expires by itself. `at_ms`: now, by the server's clock."""
    now = time.monotonic_ns()
    workers = []
    for row in rows:
        fields = asdict(row)
        fields["running_seconds"] = (now - row.start_ns) / 1e9 if row.running else None
        workers.append({"worker": row.worker_id} | {name: fields[name] for name in SHOWN})
    data = {
        "host": start.host,
        "nonce": start.nonce,
        "hostname": os.uname().nodename,
        "master_pid": start.master_pid,
        "at_ms": at_ms,
        "workers": workers,
    }
    key = host_key(settings.redis.key_prefix, f"{start.host}.{start.nonce}")
    with _comfort(link):
        link.wire.call("SET", key, msgspec.json.encode(data), "EX", SNAPSHOT_TTL)
