"""The peers as data: what is installed, how two worker processes are started, what each promises. Not here: measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Promise = Literal["at-least-once", "at-most-once"]


@dataclass(frozen=True, slots=True)
class Peer:
    """`packages`: for pip (npm for `node`), each in `.bench/ENVIRONMENT`. `workers`: commands, all started together; {bin} is the
    environment's folder of programs, {url} the server. `jobs`: of one drain, about four seconds on the machine of the published table.
    `note`: what of its configuration matters to a reader."""

    name: str
    environment: str
    packages: tuple[str, ...]
    app: str
    workers: tuple[str, ...]
    promise: Promise
    jobs: int
    note: str
    node: bool = False

    @property
    def ours(self) -> bool:
        return not self.packages


JQD = "{python} -m supervisor.cli -c jqd.yaml"

PEERS = [
    Peer("jqd", "", (), "jqd_app", (JQD,), "at-least-once", 400_000, "defaults"),
    Peer("jqd, claim_max 1", "", (), "jqd_app", (JQD,), "at-least-once", 80_000, "no claim-ahead: one trip a job"),
    Peer(
        "BullMQ", "bullmq", ("bullmq", "ioredis"), "bullmq",
        ("node {apps}/bullmq_worker.js 0", "node {apps}/bullmq_worker.js 1"),
        "at-least-once", 80_000, "2 Node processes, concurrency 50 each", node=True,
    ),
    Peer(
        "taskiq (streams)", "taskiq", ("taskiq-redis",), "taskiq_app",
        ("{bin}/taskiq worker taskiq_app:broker --workers 2 --log-level ERROR",),
        "at-least-once", 25_000, "RedisStreamBroker, 100 tasks at once a process",
    ),
    Peer(
        "SAQ", "saq", ("saq[redis]", "hiredis", "typing_extensions", "croniter"), "saq_app",
        ("{bin}/saq saq_app.settings --workers 2 --quiet",),
        "at-least-once", 14_000, "concurrency 50 a process",
    ),
    Peer(
        "Dramatiq", "dramatiq", ("dramatiq[redis]", "hiredis"), "dramatiq_app",
        ("{bin}/dramatiq dramatiq_app -p 2 -t 8 --skip-logging",),
        "at-least-once", 15_000, "8 threads a process",
    ),
    Peer(
        "streaQ", "streaq", ("streaq",), "streaq_app",
        ("{bin}/streaq run streaq_app:worker --workers 2",),
        "at-least-once", 12_000, "concurrency 50 a process",
    ),
    Peer(
        "arq", "arq", ("arq", "hiredis"), "arq_app",
        ("{bin}/arq arq_app.WorkerSettings", "{bin}/arq arq_app.WorkerSettings"),
        "at-least-once", 8_000, "100 jobs at once, polls every 10 ms (default 500)",
    ),
    Peer(
        "Celery", "celery", ("celery[redis]", "hiredis"), "celery_app",
        ("{bin}/celery -A celery_app worker -c 2 --without-gossip --without-mingle --without-heartbeat -l ERROR",),
        "at-least-once", 5_000, "prefork, acks_late, reject_on_worker_lost, no results",
    ),
    Peer(
        "RQ", "rq", ("rq", "hiredis"), "rq_app",
        ("{bin}/rq worker-pool -n 2 -q -u {url} default",),
        "at-least-once", 300, "forks for each job; a lost job is retried only if it was enqueued with Retry",
    ),
    Peer(
        "RQ, SimpleWorker", "rq", ("rq", "hiredis"), "rq_app",
        ("{bin}/rq worker-pool -n 2 -q -w rq.worker.SimpleWorker -u {url} default",),
        "at-least-once", 3_000, "does not fork",
    ),
    Peer(
        "Huey", "huey", ("huey", "redis", "hiredis"), "huey_app",
        ("{bin}/huey_consumer huey_app.huey -w 2 -k process -q",),
        "at-most-once", 25_000, "process workers, blocking pops: a killed worker's job is gone",
    ),
]  # fmt: skip
