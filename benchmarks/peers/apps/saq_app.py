"""SAQ: 50 jobs at once; the slow job has a heartbeat, so that its loss is noticed, and may be retried."""

import asyncio
import os
from contextlib import asynccontextmanager

import counting
from saq import Queue

queue = Queue.from_url(os.environ["BENCH_URL"])


async def noop(ctx):
    counting.done()


async def latency(ctx, *, at):
    counting.late(at)


async def slow(ctx):
    counting.started()
    await asyncio.sleep(3)


settings = {"queue": queue, "functions": [noop, latency, slow], "concurrency": 50}


@asynccontextmanager
async def opened():
    await queue.connect()
    yield
    await queue.disconnect()


async def send(name, *args):
    more = {"retries": 3, "heartbeat": 5} if name == "slow" else {}
    await queue.enqueue(name, ttl=-1, **more, **({"at": args[0]} if args else {}))
