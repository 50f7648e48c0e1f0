"""The queue port on Redis: packs keys and arguments for the Lua verbs and turns their replies into the port's data.

Every change of state is one script in lua/ (its header says what it does and why it is safe); nothing here decides. The same class serves
workers and stewards (over a Wire) and producers (over a redis-py client, `jobqueue.redis.server.Server`).
"""

from __future__ import annotations

from jobqueue.redis.producerverbs import ProducerVerbs
from jobqueue.redis.stewardverbs import StewardVerbs
from jobqueue.redis.workerverbs import WorkerVerbs


class RedisQueue(WorkerVerbs, StewardVerbs, ProducerVerbs):
    """All ports over one transport."""
