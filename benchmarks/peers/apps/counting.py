"""What the jobs of all peers do: count themselves in shared memory, tell how late they are, or take three seconds.

Runs in each peer's own environment, in worker processes and threads; needs nothing but the standard library. A process (a new one
after each fork) gets a slot of 8 bytes in the file `counts` by appending one byte to `slots`; so counting costs no system call a job.
"""

import mmap
import os
import time

FOLDER = os.environ["BENCH_DIR"]
_counts = None
_slot = _pid = 0


def done() -> None:
    """One no-op job more."""
    if _pid != os.getpid():
        _open()
    _counts[_slot] += 1


def _open() -> None:
    global _counts, _slot, _pid
    fd = os.open(os.path.join(FOLDER, "slots"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b".")
    _slot = os.lseek(fd, 0, os.SEEK_CUR) - 1
    os.close(fd)
    fd = os.open(os.path.join(FOLDER, "counts"), os.O_RDWR)
    _counts = memoryview(mmap.mmap(fd, 0)).cast("Q")
    os.close(fd)
    _pid = os.getpid()


def late(at) -> None:
    """`at`: CLOCK_MONOTONIC in ns when the producer began to enqueue; text, for producers without big integers."""
    append("late", str(time.monotonic_ns() - int(at)))


def started() -> None:
    """The job that will be killed: in which process, when."""
    append("slow", f"{os.getpid()} {time.monotonic_ns()}")


def append(name: str, text: str) -> None:
    fd = os.open(os.path.join(FOLDER, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)
