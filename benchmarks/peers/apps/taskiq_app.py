"""taskiq on Redis streams, acknowledged after the run; its default of 10 minutes before an unacknowledged job is taken over."""

import asyncio
import os
from contextlib import asynccontextmanager

import counting
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=os.environ["BENCH_URL"])


@broker.task("noop")
async def noop() -> None:
    counting.done()


@broker.task("latency")
async def latency(at: str) -> None:
    counting.late(at)


@broker.task("slow")
async def slow() -> None:
    counting.started()
    await asyncio.sleep(3)


TASKS = {"noop": noop, "latency": latency, "slow": slow}


@asynccontextmanager
async def opened():
    await broker.startup()
    yield
    await broker.shutdown()


async def send(name, *args):
    await TASKS[name].kiq(*args)
