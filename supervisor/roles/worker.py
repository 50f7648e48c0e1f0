"""The worker process: signals, connections, metrics and the scoreboard's row around `jobqueue.worker.Worker`.

Not the loop itself, and not the fork that made it (`supervisor.forkserver`). `run` is called in the new process; before hello a failure is
an exception, which the caller tells the master; after hello it is the exit code.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Final, Literal, NamedTuple

from jobqueue import address
from jobqueue.errors import DescriptorsUsedUp
from jobqueue.job import Envelope
from jobqueue.kinds import Kinds
from jobqueue.outcome import JobAborted, JobTimeout
from jobqueue.redis.session import WorkerSession
from jobqueue.registry import Registry
from jobqueue.surroundings import Session, Surroundings
from jobqueue.worker import Worker
from supervisor import identity, lastwords, logs, roles
from supervisor.channel import Channel
from supervisor.lockout import Lockout
from supervisor.metrics import WorkerMetrics
from supervisor.scoreboard import AbortReason, RowWriter, Scoreboard
from supervisor.settings import Pool, Settings, secrets
from supervisor.spawn import WorkerSpec

MEMORY_LOOK: Final = 0.5  # seconds between two looks at one's own memory
ABORTS: Final[Mapping[int, tuple[type[BaseException], str]]] = {
    AbortReason.TIMEOUT: (JobTimeout, "the job's time limit has passed"),
    AbortReason.DRAIN: (JobAborted, "jqd stops; the job is put back"),
    AbortReason.CANCEL: (JobAborted, "the job was cancelled"),
}


class Bell:
    """A socket pair that rings when a signal arrives, so that a wait ends. What it costs a busy worker: nothing."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self.listen()

    def listen(self) -> None:
        """Have signals ring it."""
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._read.fileno()

    def quiet(self) -> None:
        """Forget what rang."""
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(4096):
                pass

    def pause(self, seconds: float) -> None:
        """Sleep that long, or until it rings."""
        select.select([self._read], [], [], seconds)
        self.quiet()


class MetricsMeter:
    """`jobqueue.worker.Meter` on the slot's metric files."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self.waited, self.lost = metrics.wait, metrics.lost
        self.flush = metrics.flush

    def ran(
        self, queue: str, type_: str, how: Literal["processed", "retried", "failed"], seconds: Sequence[float]
    ) -> None:
        """`seconds`: one figure a job."""
        getattr(self._metrics.for_type(queue, type_), how)(len(seconds), seconds)


class Recycling:
    """When this process has lived long enough: after `max_jobs`, `max_age` seconds, with more than `max_memory` bytes of its own,
    or with no descriptor left. Called after each batch; `look`, which costs more, at each turn of the loop."""

    def __init__(self, pool: Pool, log: Any) -> None:
        self._pool, self._log = pool, log
        self._born = self._looked = time.monotonic()
        self._most = float("inf") if pool.max_jobs is None else pool.max_jobs
        self._due = False

    def __call__(self, done: int) -> bool:
        return self._due or done >= self._most

    def look(self) -> None:
        """At everything but the number of jobs."""
        self._due = self._due or self._worn_out(time.monotonic())

    def _worn_out(self, now: float) -> bool:
        pool = self._pool
        if _no_descriptor_left():
            self._log.warning("worker recycled: its jobs have used up its descriptors")
            return True
        if pool.max_age is not None and now - self._born >= pool.max_age:
            return True
        if pool.max_memory is None or now - self._looked < MEMORY_LOOK:
            return False
        self._looked = now
        if (used := own_memory()) <= pool.max_memory:
            return False
        self._log.warning("worker recycled for its memory", used=used, max_memory=pool.max_memory)
        return True


def _no_descriptor_left() -> bool:
    """Whether the next file a job opens will be refused."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno == errno.EMFILE
    return False


def own_memory() -> int:
    """Bytes only this process has (USS): pages shared with the forkserver do not count."""
    total = 0
    with contextlib.suppress(OSError), open("/proc/self/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith((b"Private_Clean:", b"Private_Dirty:")):
                total += int(line.split()[1]) * 1024
    return total


def run(spec: WorkerSpec, settings: Settings, registry: Registry, board: Scoreboard, channel: Channel) -> int:
    """Live as a worker until told to stop, due for recycling or fenced (0). See the contract of exit codes in docs/signals.md."""
    pid = os.getpid()
    starttime = identity.start_time(pid) or 0
    name = str(identity.WorkerName(spec.host, spec.nonce, spec.pool, spec.index, spec.birth, pid, starttime))
    pool = next(p for p in settings.pools if p.name == spec.pool)
    hidden, place = secrets(settings), f"{spec.pool}/{spec.index}"
    logs.configure("worker", settings.log, secrets=hidden, slot=place, generation=spec.generation)
    words = lastwords.listen(spec.birth)
    logs.keep(words.add if words is not None else None)
    log = logs.get_logger("worker")
    _be_nice(pool, log)
    writer = board.writer(spec.slot)
    bell = Bell()
    label = f"jqd: worker {spec.pool}/{spec.index}"
    metrics, recycling = WorkerMetrics(spec.slot, spec.pool), Recycling(pool, log)
    around = Surroundings(
        connect=Lockout(_connector(settings, name, pool, bell, writer.beat), writer.told_to_leave, log),
        pause=bell.pause,
        board=writer,
        meter=MetricsMeter(metrics),
        log=_teller(log),
        title=lambda text: roles.set_title(f"{label} {text}"),
        recycle_due=recycling,
        turn=lambda: turn(),  # noqa: PLW0108 - made of the worker that this makes
    )
    kinds = Kinds(registry, settings.queue, pool.claim_budget, pool.claim_max)
    worker = Worker(name, pool.queues, pool.weights, kinds, around, random.Random())
    logs.job_context(lambda: _shown(worker.runner.current))
    turn = _turn(worker, writer, bell, recycling, _signals(worker, writer.abort_word))
    _call_all(registry.worker_start)
    writer.hello(birth=spec.birth, pid=pid, starttime=starttime, generation=spec.generation, worker_id=name)
    channel.send({"kind": "hello", "pid": pid, "birth": spec.birth})
    roles.set_title(f"{label} idle")
    try:
        reason = worker.run()
    except DescriptorsUsedUp as error:
        log.error("worker without descriptors, it is replaced", cause=str(error))
        return 1
    log.debug("worker leaves", cause=reason, done=worker.runner.done)
    _call_all(registry.worker_stop)
    metrics.flush()
    if words is not None:
        words.forget()
    return 0


def _connector(
    settings: Settings, name: str, pool: Pool, bell: Bell, beat: Callable[[], None]
) -> Callable[[], Session]:
    if address.parse(settings.redis.url).scheme.endswith("+cluster"):
        from jobqueue.redis.cluster.session import Connector

        title = f"jqd:{name}"
        return Connector(settings.redis, settings.queues, title, pool.queues, bell.fileno(), bell.quiet, beat)
    before = False

    def connect() -> WorkerSession:
        nonlocal before
        again, before = before, True
        name_ = f"jqd:{name}"
        served, bell_fd = pool.queues, bell.fileno()
        return WorkerSession(settings.redis, settings.queues, name_, served, bell_fd, bell.quiet, beat, complete=again)

    return connect


def _teller(log: Any) -> Callable[[str, Mapping[str, Any]], None]:
    words = {
        "redis_lost": "Redis is not available, waiting for it",
        "redis_back": "Redis is back",
        "unknown_type": "no handler for this type here, the job is put off",
        "queue_broken": "a queue cannot be read",
        "worker_confused": "worker leaves its processing lists to the steward",
    }

    def tell(event: str, fields: Mapping[str, Any]) -> None:
        log.warning(words[event], **fields)

    return tell


class _Shown(NamedTuple):
    """The running job as log lines name it; attempts count from 1 there."""

    id: str
    type: str
    attempt: int


def _shown(envelope: Envelope | None) -> _Shown | None:
    return None if envelope is None else _Shown(envelope.id, envelope.type, envelope.attempt + 1)


def _be_nice(pool: Pool, log: Any) -> None:
    """Priority and OOM score as configured; by default workers die before the master does."""
    try:
        if pool.nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, pool.nice)
        score = pool.oom_score_adj if pool.oom_score_adj is not None else 200
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError as error:
        log.debug("priority or OOM score not set", cause=str(error))


Handlers = Mapping[int, Callable[[int, FrameType | None], None] | signal.Handlers]


def _turn(
    worker: Worker, writer: RowWriter, bell: Bell, recycling: Recycling, handlers: Handlers
) -> Callable[[], None]:
    """What a turn of the loop does: beat, make good what a job did to our signals, see what it left of our resources."""

    def turn() -> None:
        writer.beat()
        recycling.look()
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
        bell.listen()
        if writer.told_to_leave():  # perhaps in words that a job has kept from us
            worker.stopping = True

    return turn


def _signals(worker: Worker, abort_word: Callable[[], tuple[int, int]]) -> Handlers:
    """TERM: leave after the running job. USR1: look at the abort word. USR2: dump the Python stack."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stopping = True

    def abort(_number: int, _frame: FrameType | None) -> None:
        number, reason = abort_word()
        if reason in ABORTS:
            error, words = ABORTS[reason]
            worker.runner.armed.fire(number, error(words))

    handlers: Handlers = {
        signal.SIGTERM: stop,
        signal.SIGUSR1: abort,
        signal.SIGHUP: signal.SIG_IGN,
        signal.SIGINT: signal.SIG_IGN,
    }
    for number, handler in handlers.items():
        signal.signal(number, handler)
    faulthandler.register(signal.SIGUSR2, all_threads=True, chain=False)
    return handlers


def _call_all(hooks: Mapping[str, Callable[[], object]]) -> None:
    for hook in hooks.values():
        hook()
