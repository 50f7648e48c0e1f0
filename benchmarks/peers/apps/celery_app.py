"""Celery: acks_late, requeued when a worker is lost, no results."""

import os
import time

import counting
from celery import Celery

app = Celery("celery_app", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop():
    counting.done()


@app.task
def latency(at):
    counting.late(at)


@app.task
def slow():
    counting.started()
    time.sleep(3)


TASKS = {"noop": noop, "latency": latency, "slow": slow}


def send(name, *args):
    TASKS[name].delay(*args)
