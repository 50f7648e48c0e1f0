"""This project: handlers, and its producer."""

import os
import time

import counting

from jobqueue import JobQueue, handler

queue = JobQueue(os.environ["BENCH_URL"])


@handler("noop")
def noop():
    counting.done()


@handler("latency")
def latency(at: str):
    counting.late(at)


@handler("slow")
def slow():
    counting.started()
    time.sleep(3)


def send(name, *args):
    queue.enqueue(name, {"at": args[0]} if args else None)


def send_many(n):
    queue.enqueue_many(("noop", None) for _ in range(n))
