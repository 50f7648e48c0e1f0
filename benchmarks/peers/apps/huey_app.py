"""Huey: blocking pops, no results kept."""

import os
import time

import counting
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_URL"], results=False)


@huey.task()
def noop():
    counting.done()


@huey.task()
def latency(at):
    counting.late(at)


@huey.task(retries=3)
def slow():
    counting.started()
    time.sleep(3)


TASKS = {"noop": noop, "latency": latency, "slow": slow}


def send(name, *args):
    TASKS[name](*args)
