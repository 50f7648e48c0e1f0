"""The scoreboard: one shared-memory row a slot, by which master and steward see what a worker does without asking it.

Not a message channel: a row says only how things are now. The worker writes its own row (RowWriter), the master writes
the abort word and clears rows, everybody else reads. Called by master, steward, worker.

A row has a *static* part, written once at hello, whose birth is written last and says that the rest is there; a
*current* part in two copies with one word, the turn, whose lowest bit names the complete copy; and the abort word. The
writer fills the other copy and then moves the turn: killed at any instant it leaves a whole row. A reader copies the
row between two looks at the turn and looks again if it moved, since the copy it read can only have been touched after
that. The turn, the birth and the abort word are single aligned 8-byte stores (a memoryview of native words); the order
of stores is that of the program on x86-64, and on ARM is as good as what the interpreter does between two bytecodes
(more than its pipeline can hold back).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

ROWS: Final = 1024
ROW_BYTES: Final = 1024
MAGIC: Final = b"jqd board 1\0\0\0\0\0"

# Where things are in a row, in bytes. Words (8 bytes) are addressed by their index in the whole memory.
_BIRTH, _TURN, _ABORT, _READY, _STATIC, _COPY = 0, 8, 16, 24, 32, (192, 576)
_BEAT, _LEAVE = 944, 952
_static = struct.Struct("@QQQ128s")  # pid starttime generation worker_id
_current = struct.Struct(
    "@QQQQQQQQQ128s96s64s"
)  # trip started held number start soft hard done busy, queue job_id type
_limits = struct.Struct("@QQQQQQQ")  # the first seven of these
assert (
    _STATIC + _static.size <= _COPY[0]
    and _COPY[0] + _current.size <= _COPY[1]
    and _COPY[1] + _current.size <= _BEAT
    and _LEAVE + 8 <= ROW_BYTES
)


class LayoutMismatch(RuntimeError):
    """The shared memory was made by a master whose code lays rows out differently (code replaced, then a reload)."""

    def __init__(self, found: bytes) -> None:
        self.found = found
        super().__init__(
            f"the running master has another scoreboard layout ({found!r}) than this code ({MAGIC!r}): "
            "restart jqd instead of reloading"
        )


class AbortReason(IntEnum):
    """Why a running job is to be aborted."""

    TIMEOUT = 1
    DRAIN = 2
    CANCEL = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A consistent copy of one row. It counts only if `birth` is the birth of the process now in the slot.

    Times are CLOCK_MONOTONIC nanoseconds (0: none). Strings longer than their room are cut: queue 128, job_id 96, type
    64 bytes.
    """

    birth: int
    pid: int
    starttime: int
    generation: int
    worker_id: str
    ready: bool
    queue: str
    trip: int
    started: int
    held: int
    number: int
    start_ns: int
    soft_ns: int
    hard_ns: int
    done: int
    busy_ns: int
    job_id: str
    type: str

    @property
    def running(self) -> bool:
        """True while a handler runs."""
        return self.start_ns != 0


@dataclass(frozen=True, slots=True)
class Glance:
    """The numbers of a row without its strings, a third of the cost: for those who look a hundred times a second.
    `beat_ns`: when the worker's loop last turned."""

    birth: int
    trip: int
    started: int
    held: int
    number: int
    start_ns: int
    soft_ns: int
    hard_ns: int
    beat_ns: int = 0


class Scoreboard:
    """All rows. Made once by the master; other processes open the same memory by its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, (ROWS + 1) * ROW_BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> Scoreboard:
        """New memory, all rows empty. Its size is sealed, so that no reader can ever be hit by SIGBUS."""
        fd = os.memfd_create("jqd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, (ROWS + 1) * ROW_BYTES)
        os.pwrite(fd, MAGIC, 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd)

    @classmethod
    def open(cls, fd: int) -> Scoreboard:
        """The memory behind an inherited descriptor. Raises LayoutMismatch."""
        found = os.pread(fd, len(MAGIC), 0)
        if found != MAGIC or os.fstat(fd).st_size != (ROWS + 1) * ROW_BYTES:
            raise LayoutMismatch(found)
        return cls(fd)

    def close(self) -> None:
        """Let go of the memory; writers made from it must be gone."""
        self._words.release()
        self._map.close()
        os.close(self.fd)

    def read(self, slot: int) -> Row:
        """A consistent copy of the slot's row."""
        base = _base(slot)
        words, first = self._words, base // 8
        while True:
            birth, turn = words[first], words[first + 1]
            data = self._map[base : base + ROW_BYTES]
            if words[first + 1] == turn and words[first] == birth:
                return _decode(birth, turn, data)

    def glance(self, slot: int) -> Glance:
        """The slot's numbers, consistent with each other."""
        base = _base(slot)
        words, first = self._words, base // 8
        while True:
            birth, turn = words[first], words[first + 1]
            numbers = _limits.unpack_from(self._map, base + _COPY[turn & 1])
            if words[first + 1] == turn and words[first] == birth:
                # Read after the numbers and written before them: of a row that says "idle" it is never too old.
                return Glance(birth, *(*numbers, words[first + _BEAT // 8]))

    def lived_in(self) -> list[int]:
        """Slots whose row was written by somebody, alive or not: in one look, for those who would else read all rows."""
        births = self._words[ROW_BYTES // 8 :: ROW_BYTES // 8].tolist()
        return [slot for slot, birth in enumerate(births) if birth]

    def stamp(self, slot: int) -> tuple[int, int]:
        """Differs from an earlier one if anything was written about jobs since: the cheapest look there is."""
        first = _base(slot) // 8
        return self._words[first], self._words[first + 1]

    def clear(self, slot: int) -> None:
        """Forget the slot's last process. For the master, before the slot is used again."""
        base = _base(slot)
        self._words[base // 8] = 0
        self._map[base : base + ROW_BYTES] = bytes(ROW_BYTES)

    def abort(self, slot: int, number: int, reason: int) -> None:
        """Ask the worker to abort its job `number`. For the master, which then sends SIGUSR1."""
        self._words[(_base(slot) + _ABORT) // 8] = number << 8 | reason

    def leave(self, slot: int) -> None:
        """Tell the worker to leave when its job is done, in case the job keeps the signal from it. For the master."""
        self._words[(_base(slot) + _LEAVE) // 8] = 1

    def writer(self, slot: int) -> RowWriter:
        """The writing end of a row. For the one process that lives in the slot."""
        return RowWriter(self._map, self._words, slot)


class RowWriter:
    """Writes one row. The calls on the hot path are one `pack_into` and one word each; strings come as bytes."""

    __slots__ = (
        "_base",
        "_beat_at",
        "_busy",
        "_copies",
        "_done",
        "_held",
        "_job",
        "_map",
        "_number",
        "_pack",
        "_queue",
        "_started",
        "_trip",
        "_turn",
        "_turn_at",
        "_type",
        "_words",
    )  # fmt: skip

    def __init__(self, memory: mmap.mmap, words: memoryview, slot: int) -> None:
        self._map, self._words, self._base = memory, words, _base(slot)
        self._turn_at, self._beat_at = (self._base + _TURN) // 8, (self._base + _BEAT) // 8
        self._copies = (self._base + _COPY[0], self._base + _COPY[1])
        self._pack = _current.pack_into
        self._turn: int = words[self._turn_at]
        self._trip = self._started = self._held = self._number = self._done = self._busy = 0
        self._queue = self._job = self._type = b""

    def hello(self, *, birth: int, pid: int, starttime: int, generation: int, worker_id: str) -> None:
        """The static part. The birth goes last: whoever sees it sees the rest."""
        name = worker_id.encode()
        if len(name) > 128:
            raise ValueError(
                f"worker id of {len(name)} bytes does not fit 128 bytes: give the pool a shorter name: {worker_id}"
            )
        _static.pack_into(self._map, self._base + _STATIC, pid, starttime, generation, name)
        self.beat()
        self._words[self._base // 8] = birth

    def ready(self, flag: bool) -> None:
        """Whether the worker has joined its queues in Redis."""
        self._words[(self._base + _READY) // 8] = int(flag)

    def beat(self) -> None:
        """The loop turns. Whoever runs no job and has not said so for long hangs."""
        self._words[self._beat_at] = time.monotonic_ns()

    def told_to_leave(self) -> bool:
        """Whether the master wants this worker gone."""
        return bool(self._words[(self._base + _LEAVE) // 8])

    def claimed(self, trip: int, held: int, queue: bytes) -> None:
        """After a trip: nothing started, nothing running, `held` jobs of `queue` held."""
        self._trip, self._started, self._held, self._queue = trip, 0, held, queue
        self._rest()

    def start(
        self,
        number: int,
        started: int,
        held: int,
        start_ns: int,
        soft_ns: int,
        hard_ns: int,
        job_id: bytes,
        type_: bytes,
    ) -> None:
        """Job `number` runs from now; it is the `started`th since the trip and `held` more wait."""
        self._number, self._started, self._held, self._job, self._type = number, started, held, job_id, type_
        turn = self._turn + 1
        self._pack(
            self._map, self._copies[turn & 1], self._trip, started, held, number, start_ns, soft_ns, hard_ns,
            self._done, self._busy, self._queue, job_id, type_,
        )  # fmt: skip
        self._words[self._turn_at] = self._turn = turn

    def idle(self, done: int, busy_ns: int) -> None:
        """Nothing runs now; `done` jobs finished so far, `busy_ns` spent in them."""
        self._done, self._busy = done, busy_ns
        self._rest()

    def abort_word(self) -> tuple[int, int]:
        """(job number, reason) as the master last wrote it; (0, 0): never."""
        word: int = self._words[(self._base + _ABORT) // 8]
        return word >> 8, word & 0xFF

    def _rest(self) -> None:
        """Nothing runs, and the loop turns."""
        self._words[self._beat_at] = time.monotonic_ns()
        turn = self._turn + 1
        self._pack(
            self._map, self._copies[turn & 1], self._trip, self._started, self._held, self._number,
            0, 0, 0, self._done, self._busy, self._queue, self._job, self._type,
        )  # fmt: skip
        self._words[self._turn_at] = self._turn = turn


def _base(slot: int) -> int:
    if not 0 <= slot < ROWS:
        raise IndexError(f"slot {slot} is not within 0..{ROWS - 1}")
    return (slot + 1) * ROW_BYTES


def _decode(birth: int, turn: int, data: bytes) -> Row:
    pid, starttime, generation, worker_id = _static.unpack_from(data, _STATIC)
    trip, started, held, number, start, soft, hard, done, busy, queue, job_id, kind = _current.unpack_from(
        data, _COPY[turn & 1]
    )
    return Row(
        birth, pid, starttime, generation, _text(worker_id), data[_READY] != 0, _text(queue), trip, started, held,
        number, start, soft, hard, done, busy, _text(job_id), _text(kind),
    )  # fmt: skip


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "replace")
