"""A worker that does what files in $JQD_STUB say: hello, rows and signals as the real one, and no Redis.

`boot-GENERATION`: fail or hang before hello. `job-PID`: "soft hard ending", seconds and how the handler ends:
`obey` (an abort), `ignore` (everything but SIGKILL), or `done` (at once).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from supervisor import identity, lastwords
from supervisor.channel import Channel
from supervisor.scoreboard import Scoreboard
from supervisor.spawn import WorkerSpec

FOLDER = Path(os.environ["JQD_STUB"])


def run(spec: WorkerSpec, _settings: Any, _registry: Any, board: Scoreboard, channel: Channel) -> int:
    seen: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, lastwords.STACK):
        signal.signal(number, lambda number, _frame: seen.append(number))
    boot = _read(f"boot-{spec.generation}")
    if boot == "fail":
        raise RuntimeError("this generation does not boot")
    while boot == "hang":
        time.sleep(0.01)
    writer = board.writer(spec.slot)
    start_time = identity.start_time(os.getpid()) or 0
    name = identity.WorkerName(spec.host, spec.nonce, spec.pool, spec.index, spec.birth, os.getpid(), start_time)
    writer.hello(
        birth=spec.birth, pid=os.getpid(), starttime=start_time, generation=spec.generation, worker_id=str(name)
    )
    channel.send({"kind": "hello", "pid": os.getpid(), "birth": spec.birth})
    writer.ready(True)
    done = 0
    while signal.SIGTERM not in seen:
        if order := _read(f"job-{os.getpid()}"):
            done += 1
            _job(writer, done, order, seen)
            writer.idle(done, 0)
            (FOLDER / f"job-{os.getpid()}").unlink(missing_ok=True)
        if how := _read(f"child-{os.getpid()}"):
            _grandchild(orphan=how == "orphan")
        if code := _read(f"exit-{os.getpid()}"):
            return int(code)
        time.sleep(0.005)
    _note(f"term-{os.getpid()}", str(seen.count(signal.SIGTERM)))
    return 0


def _job(writer: Any, number: int, order: str, seen: list[int]) -> None:
    soft, hard, ending = order.split()
    now = time.monotonic_ns()
    limits = [now + int(float(text) * 1e9) if float(text) else 0 for text in (soft, hard)]
    writer.start(number, 1, 0, now, *limits, b"job", b"stub")
    _note(f"running-{os.getpid()}", order)
    while ending != "done":
        if signal.SIGUSR1 in seen and writer.abort_word()[0] == number:
            seen.remove(signal.SIGUSR1)
            _note(f"abort-{os.getpid()}", str(writer.abort_word()[1]))
            if ending == "obey":
                return
        if not (FOLDER / f"job-{os.getpid()}").exists():
            return
        time.sleep(0.005)


def _read(name: str) -> str:
    try:
        return (FOLDER / name).read_text()
    except FileNotFoundError:
        return ""


def _note(name: str, text: str) -> None:
    (FOLDER / name).write_text(text)


def _grandchild(*, orphan: bool) -> None:
    """A process that waits for ever: our child, or nobody's (its parent, in between, has left)."""
    me = os.getpid()
    (FOLDER / f"child-{me}").unlink()
    if os.fork() == 0:
        if orphan and os.fork():
            os._exit(0)
        temporary = FOLDER / f"child.{me}"
        temporary.write_text(str(os.getpid()))
        temporary.rename(FOLDER / f"child-of-{me}")
        while True:
            signal.pause()
