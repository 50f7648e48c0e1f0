"""CPU a job costs a worker, without Redis: the real loop, scoreboard, metrics and handler call on a port that always has jobs.

    python -m benchmarks.worker_cpu [--profile]

Process time, so a busy machine does not matter much. Prints the median of several rounds, in microseconds a job.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from jobqueue import handler
from jobqueue.handlers import current
from jobqueue.kinds import Kinds
from jobqueue.port import Claim, Reconciled, Settlement
from jobqueue.settings import QueueSettings
from jobqueue.surroundings import Surroundings
from jobqueue.worker import Worker
from supervisor.metrics import WorkerMetrics
from supervisor.roles.worker import MetricsMeter
from supervisor.scoreboard import Scoreboard

ELEMENT = b'{"type":"noop","id":"0123456789012345678901","payload":{},"queue":"default","enqueued_at":1795317915031}'


@handler("noop")
def noop() -> None: ...


class Plenty:
    """A port with endless no-op jobs. `left`: trips until the worker is told to stop."""

    def __init__(self, trips: int) -> None:
        self.left, self.worker, self.jobs = trips, None, 0
        self.now = 1795317915032

    @property
    def port(self) -> Any:
        return self

    def join(self, worker: str, queues: Sequence[str], lease_ms: int) -> None: ...
    def retire(self, worker: str, queues: Sequence[str]) -> bool:
        return True

    def reconcile(self, worker: str, bar: int, queues: Sequence[str]) -> Reconciled:
        return Reconciled({}, {})

    def settle(
        self,
        worker: str,
        trip: int,
        applied: int,
        home: str,
        done: Sequence[Settlement],
        keep: int,
        order: Sequence[str],
        want: int,
        return_next: bool,
    ) -> Claim:
        self.left -= 1
        if self.left <= 0:
            self.worker.stopping = True  # type: ignore[attr-defined]
            return Claim(0, home, (), 0, frozenset(), False, self.now)
        self.jobs += want
        return Claim(0, "default", [ELEMENT] * want, 0, frozenset(), False, self.now)

    def settled(self) -> bool:
        return False

    def owes(self) -> bool:
        return False

    def close(self) -> None: ...


def one_round(trips: int) -> float:
    plenty = Plenty(trips)
    board = Scoreboard.create()
    metrics = WorkerMetrics(0, "default", tempfile.mkdtemp(prefix="jq-"))
    around = Surroundings(
        connect=lambda: plenty,  # type: ignore[arg-type,return-value]
        pause=lambda seconds: None,
        board=board.writer(0),
        meter=MetricsMeter(metrics),
        log=lambda event, fields: None,
        title=lambda text: None,
        recycle_due=lambda done: False,
    )
    kinds = Kinds(current().prepare(), lambda queue: QueueSettings(), 0.005, 64)
    worker = Worker("w", ("default",), None, kinds, around, random.Random(1))
    plenty.worker = worker  # type: ignore[assignment]
    start = time.process_time()
    worker.run()
    return (time.process_time() - start) / worker.runner.done * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    if args.profile:
        import cProfile
        import pstats

        with cProfile.Profile() as profile:
            one_round(2000)
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        return
    figures = [one_round(1500) for _ in range(7)]
    print(f"{statistics.median(figures):.2f} us of CPU a job (min {min(figures):.2f}, max {max(figures):.2f})")


if __name__ == "__main__":
    main()
