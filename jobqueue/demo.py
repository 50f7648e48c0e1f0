"""Handlers to try things with: some useful-looking, some that fail in every way a handler can. `handlers:
[jobqueue.demo]`.

Nothing here is for production; the supervisor's own tests and the benchmarks run these.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time

from jobqueue.registry import handler

_leaked: list[bytearray] = []


class Flaked(Exception):
    """What `demo:flaky` raises."""


@handler("email:welcome")
def welcome(user_id: int) -> None:
    """Print one line, as if a mail had been sent."""
    _say(f"sending welcome email to user {user_id}")


@handler("demo:flaky")
def flaky(p: float = 0.5) -> None:
    """Fail with probability `p`."""
    if random.random() < p:
        raise Flaked(f"failed, as it does in {p:.0%} of all runs")


@handler("demo:sleep")
def sleep(seconds: float) -> None:
    """Wait without using the CPU."""
    time.sleep(seconds)


@handler("demo:cpu")
def cpu(ms: float) -> None:
    """Use the CPU for `ms` milliseconds of this process's CPU time."""
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass


@handler("demo:crash")
def crash() -> None:
    """Kill this very process with SIGKILL, as the kernel would when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@handler("demo:leak")
def leak(mb: float) -> None:
    """Take `mb` megabytes and never give them back."""
    size = int(mb * 1024 * 1024)
    block = bytearray(size)
    block[::4096] = b"\x01" * len(range(0, size, 4096))  # touched, or the kernel would not count the pages
    _leaked.append(block)


@handler("demo:hang")
def hang() -> None:
    """Spin in C code that never returns to the interpreter: no Python signal handler runs any more, only SIGKILL helps."""
    sum(itertools.repeat(0))


@handler("demo:append")
def append(path: str, line: str) -> None:
    """Append `line` to the file `path` in one write, so that what ran, and how often, can be counted from outside."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)


@handler("notify")
def notify(message: bytes) -> None:
    """For a raw queue of lines like `user1@foo.com,application installed`."""
    recipient, _, text = message.decode("utf-8", errors="replace").partition(",")
    _say(f"sending notification '{text.strip()}' to {recipient.strip()}")


def _say(line: str) -> None:
    # Flushed: a worker leaves without running exit handlers, and its output is often a pipe.
    print(line, flush=True)
