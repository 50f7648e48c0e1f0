"""streaQ: 50 jobs at once, results not kept."""

import os
from contextlib import asynccontextmanager

import anyio
import counting
from streaq import Worker

worker = Worker(redis_url=os.environ["BENCH_URL"], concurrency=50)


@worker.task(ttl=0)
async def noop() -> None:
    counting.done()


@worker.task(ttl=0)
async def latency(at: str) -> None:
    counting.late(at)


@worker.task(ttl=0)
async def slow() -> None:
    counting.started()
    await anyio.sleep(3)


TASKS = {"noop": noop, "latency": latency, "slow": slow}


@asynccontextmanager
async def opened():
    async with worker:
        yield


async def send(name, *args):
    await TASKS[name].enqueue(*args)


async def send_many(n):
    await worker.enqueue_many([noop.enqueue() for _ in range(n)])
