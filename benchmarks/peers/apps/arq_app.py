"""arq: 100 jobs at once, looks for jobs every 10 ms (its default of 500 ms would bound the drain), no results kept."""

import asyncio
import os
from contextlib import asynccontextmanager

import counting
from arq import create_pool
from arq.connections import RedisSettings

REDIS = RedisSettings.from_dsn(os.environ["BENCH_URL"])
pool = None


async def noop(ctx):
    counting.done()


async def latency(ctx, at):
    counting.late(at)


async def slow(ctx):
    counting.started()
    await asyncio.sleep(3)


class WorkerSettings:
    functions = [noop, latency, slow]
    redis_settings = REDIS
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 0


@asynccontextmanager
async def opened():
    global pool
    pool = await create_pool(REDIS)
    yield
    await pool.aclose()


async def send(name, *args):
    await pool.enqueue_job(name, *args)
