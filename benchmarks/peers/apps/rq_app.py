"""RQ: results and successful jobs are not kept; the slow job may be retried."""

import os
import time

import counting
from redis import Redis
from rq import Queue, Retry

queue = Queue("default", connection=Redis.from_url(os.environ["BENCH_URL"]))
OPTIONS = {"result_ttl": 0}


def noop():
    counting.done()


def latency(at):
    counting.late(at)


def slow():
    counting.started()
    time.sleep(3)


def send(name, *args):
    more = {"retry": Retry(max=3)} if name == "slow" else {}
    queue.enqueue(f"rq_app.{name}", *args, **OPTIONS, **more)


def send_many(n):
    queue.enqueue_many([Queue.prepare_data("rq_app.noop", **OPTIONS) for _ in range(n)])
