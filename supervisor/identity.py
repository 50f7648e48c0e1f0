"""Who a worker is, for ever: names that carry enough to decide, on the same host, whether their process still lives.

Not a registry: nothing here asks Redis or keeps state. Called by the master (host, nonce), by workers (their own name)
and by stewards, which decide from a name alone whether a processing list still has an owner.

Process ids and host names repeat, in containers all the time. So a host is (boot id, pid namespace), a process is (pid,
start time), and every run of the master adds a nonce.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass

MAX_ID_BYTES = 128


class BadWorkerName(ValueError):
    """A string that was never the id of a worker."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"not a worker id: {text!r} (expected HOST.NONCE.POOL-INDEX.BIRTH-PID-STARTTIME)")


@dataclass(frozen=True, slots=True)
class WorkerName:
    """The parts of a worker id. `starttime` is in clock ticks since boot (field 22 of /proc/PID/stat)."""

    host: str
    nonce: str
    pool: str
    index: int
    birth: int
    pid: int
    starttime: int

    def __str__(self) -> str:
        return f"{self.host}.{self.nonce}.{self.pool}-{self.index}.{self.birth}-{self.pid}-{self.starttime}"


def parse(worker_id: str) -> WorkerName:
    """The parts of `worker_id`; pool names may hold dots and dashes. Raises BadWorkerName."""
    try:
        host_part, nonce, rest = worker_id.split(".", 2)
        place, process = rest.rsplit(".", 1)
        pool, index = place.rsplit("-", 1)
        birth, pid, starttime = process.split("-")
        name = WorkerName(host_part, nonce, pool, int(index), int(birth), int(pid), int(starttime))
    except ValueError:
        raise BadWorkerName(worker_id) from None
    if not (name.host and name.nonce and name.pool) or str(name) != worker_id:
        raise BadWorkerName(worker_id)
    return name


def alive(name: WorkerName) -> bool:
    """False only if the process is known to be gone; a worker of another host is presumed alive (its lease decides)."""
    if name.host != host():
        return True
    return start_time(name.pid) == name.starttime


@functools.cache
def host() -> str:
    """8 hex digits: this boot of this machine, seen from this pid namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return hashlib.blake2s(f"{boot} {namespace}".encode(), digest_size=4).hexdigest()


def new_nonce() -> str:
    """6 hex digits, one for each run of the master."""
    return os.urandom(3).hex()


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None if there is no such process or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name is in parentheses and may itself contain anything: count from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X", b"x"):
        return None
    return int(fields[19])
