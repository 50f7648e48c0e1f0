"""Handlers of the fault tests: each run leaves lines in a file, so that what ran, how often and where is countable from
outside.

Loaded by jqd under test. A line is `what name pid monotonic-seconds attempt crashes`; `what` is begin, end, fail, crash
or bury. A run that has a begin and nothing else was interrupted from outside.
"""

from __future__ import annotations

import os
import signal
import time

from jobqueue import Job, JobTimeout, SkipRetry, handler

PID_BASE = int(os.environ.get("JQD_FAULT_PID_BASE", "0"))  # a host in a namespace of its own has numbers of its own


def note(path: str, what: str, name: str, job: Job) -> None:
    """One line in one write."""
    line = f"{what} {name} {os.getpid() + PID_BASE} {time.monotonic():.6f} {job.attempt} {job.crashes}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, line.encode())
    os.close(file)


@handler("fault:work", backoff={"base": "60ms", "max": "60ms", "jitter": "none"}, max_attempts=10)
def work(path: str, name: str, job: Job, ms: float = 0.0, fail: int = 0, crash: int = 0, bury: bool = False) -> None:
    """Takes `ms`; its first `crash` runs kill their process, the next `fail` raise; then it is buried, or succeeds."""
    note(path, "begin", name, job)
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.01))
    if job.crashes < crash:
        note(path, "crash", name, job)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.attempt <= fail:
        note(path, "fail", name, job)
        raise RuntimeError("planned")
    if bury:
        note(path, "bury", name, job)
        raise SkipRetry("planned")
    note(path, "end", name, job)


@handler("fault:quick", max_attempts=10)
def quick(path: str, name: str, job: Job, ms: float = 0.0) -> None:
    """As `fault:work`, but of a type that stays known to be short: what is claimed ahead of it waits behind it."""
    note(path, "begin", name, job)
    if ms:
        time.sleep(ms / 1000)
    note(path, "end", name, job)


@handler("fault:limited", time_limit="300ms", max_attempts=1)
def limited(path: str, name: str, job: Job, ms: float = 0.0) -> None:
    """Longer than it may."""
    note(path, "begin", name, job)
    try:
        time.sleep(ms / 1000)
    except JobTimeout:
        note(path, "bury", name, job)
        raise
    note(path, "end", name, job)
