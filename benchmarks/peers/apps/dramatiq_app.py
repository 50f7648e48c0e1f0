"""Dramatiq: its defaults, 8 threads a process."""

import os
import time

import counting
import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_URL"]))


@dramatiq.actor
def noop():
    counting.done()


@dramatiq.actor
def latency(at):
    counting.late(at)


@dramatiq.actor
def slow():
    counting.started()
    time.sleep(3)


TASKS = {"noop": noop, "latency": latency, "slow": slow}


def send(name, *args):
    TASKS[name].send(*args)
