"""What a reload's steward does before it is one: asks Redis whether the new settings let it and workers in. Jobs are not touched.

Not the steward's work, which begins when the master says so (`supervisor.roles.steward`, the only caller): until every part of
the new generation has proved good, the old one keeps serving with what it has.
"""

from __future__ import annotations

from typing import Final

from jobqueue.errors import Fenced, ServerRefused, TlsFailed, Unavailable, UnsafeServer
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.session import link
from supervisor.settings import Settings

HOPELESS: Final = frozenset({"WRONGPASS", "NOAUTH", "NOPERM"})
"""Answers that stay the same however often one asks, even of a server that is only starting."""
PASSING: Final = frozenset(
    {
        "LOADING",
        "BUSY",
        "MASTERDOWN",
        "READONLY",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "OOM",
        "MISCONF",
        "NOREPLICAS",
        "UNKILLABLE",
    }
)
"""Refusals that pass by themselves: of a server in trouble, not of these settings."""


def refusal(settings: Settings, nobody: str, timeout: float) -> str | None:
    """Why Redis refuses these settings, for the log; None if it does not, or cannot be asked now: an outage is no fault of a
    file. `nobody`: the name of a worker there is none of. `timeout`: seconds for one reply."""
    try:
        opened = link(settings.redis, settings.queues, "jqd:steward", timeout)
        try:
            for queue in dict.fromkeys(q for pool in settings.pools for q in pool.queues):
                _try_verbs(opened.queue, queue, nobody)
        finally:
            opened.close()
    except (TlsFailed, UnsafeServer) as error:
        return str(error)
    except ServerRefused as error:
        return None if error.code in PASSING else str(error)
    except Unavailable:
        return None
    return None


def _try_verbs(port: RedisQueue, queue: str, nobody: str) -> None:
    """A steward's and a worker's way to the keys of one queue, on behalf of nobody: raises ServerRefused if it is barred."""
    port.leases(queue)
    port.return_next(queue)
    try:
        port.settle(nobody, 1, 0, queue, [], 0, [queue], 0, False)
    except Fenced:
        return
