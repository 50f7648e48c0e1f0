"""The scoreboard: a reader never sees half a row, whenever the writer is killed."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.scoreboard import ROWS, AbortReason, LayoutMismatch, Row, RowWriter, Scoreboard
from tests.support.waiting import eventually

words = st.integers(min_value=0, max_value=2**64 - 1)


def hello(writer: RowWriter, birth: int = 7) -> None:
    writer.hello(birth=birth, pid=42, starttime=99, generation=3, worker_id="h.n.default-0.7-42-99")


def test_an_empty_row_has_no_birth_and_runs_nothing() -> None:
    row = Scoreboard.create().read(0)
    assert (row.birth, row.running, row.ready, row.worker_id, row.job_id) == (0, False, False, "", "")


def test_a_life_as_others_see_it() -> None:
    mine = Scoreboard.create()
    board, writer = Scoreboard.open(mine.fd), mine.writer(5)
    hello(writer)
    assert board.read(5).birth == 7
    assert board.read(5).worker_id == "h.n.default-0.7-42-99"
    writer.ready(True)
    writer.claimed(11, 4, b"default")
    row = board.read(5)
    assert (row.ready, row.queue, row.trip, row.started, row.held, row.running) == (True, "default", 11, 0, 4, False)
    writer.start(1, 1, 3, 1000, 2000, 3000, b"id-1", b"email:welcome")
    row = board.read(5)
    assert row.running
    assert (row.number, row.started, row.held, row.start_ns, row.soft_ns, row.hard_ns) == (1, 1, 3, 1000, 2000, 3000)
    assert (row.job_id, row.type, row.trip) == ("id-1", "email:welcome", 11)
    writer.idle(1, 500)
    row = board.read(5)
    assert not row.running
    assert (row.done, row.busy_ns, row.trip, row.started, row.held, row.number) == (1, 500, 11, 1, 3, 1)
    assert board.read(4).birth == board.read(6).birth == 0


@given(words, words, words, words, words, words, st.binary(max_size=200), st.binary(max_size=100))
def test_any_numbers_and_bytes_fit(
    number: int, started: int, held: int, start: int, soft: int, hard: int, job_id: bytes, kind: bytes
) -> None:
    board = SHARED
    board.writer(0).start(number, started, held, start, soft, hard, job_id, kind)
    row, glance = board.read(0), board.glance(0)
    assert (row.number, row.started, row.held, row.start_ns, row.soft_ns, row.hard_ns) == (
        number, started, held, start, soft, hard,
    )  # fmt: skip
    assert row.job_id == job_id[:96].rstrip(b"\0").decode(errors="replace")
    seen = asdict(row)
    assert {name: n for name, n in asdict(glance).items() if name != "beat_ns"} == {
        n: seen[n] for n in asdict(glance) if n in seen
    }


SHARED = Scoreboard.create()


def test_the_abort_word_names_job_and_reason() -> None:
    board = Scoreboard.create()
    writer = board.writer(3)
    assert writer.abort_word() == (0, 0)
    board.abort(3, 2**40, AbortReason.DRAIN)
    assert writer.abort_word() == (2**40, AbortReason.DRAIN)


def test_a_cleared_row_knows_nothing_of_the_last_process() -> None:
    board = Scoreboard.create()
    writer = board.writer(ROWS - 1)
    hello(writer)
    writer.start(9, 1, 0, 5, 0, 0, b"id", b"t")
    board.abort(ROWS - 1, 9, AbortReason.TIMEOUT)
    board.clear(ROWS - 1)
    assert asdict(board.read(ROWS - 1)) == asdict(Scoreboard.create().read(0))
    assert board.writer(ROWS - 1).abort_word() == (0, 0)


@pytest.mark.parametrize("slot", [-1, ROWS])
def test_there_are_no_other_rows(slot: int) -> None:
    with pytest.raises(IndexError):
        Scoreboard.create().read(slot)


def test_a_worker_id_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter name"):
        Scoreboard.create().writer(0).hello(birth=1, pid=1, starttime=1, generation=1, worker_id="x" * 129)


def test_memory_of_another_layout_is_refused() -> None:
    fd = os.memfd_create("other")
    os.write(fd, b"something else")
    with pytest.raises(LayoutMismatch, match="restart jqd"):
        Scoreboard.open(fd)
    os.close(fd)


def test_the_memory_cannot_be_cut_under_a_reader() -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(Scoreboard.create().fd, 0)


def whole(row: Row) -> bool:
    """As written by `write_for_ever`: every field follows from the job number."""
    n = row.number
    numbers = (row.trip, row.started, row.held, row.done, row.busy_ns)
    job = row.start_ns in (0, n) and row.soft_ns == row.start_ns == row.hard_ns
    texts = row.job_id == f"{n:096d}" and row.type == f"{n:064d}" and len(set(row.queue)) == 1
    return n == 0 or (job and texts and row.trip == n and numbers[1:] in ((n, n, n - 1, n - 1), (n, n, n, n)))


def write_for_ever(board: Scoreboard, slot: int) -> None:
    writer = board.writer(slot)
    hello(writer)
    for n in range(1, 10**9):
        writer._trip, writer._queue = n, bytes([97 + n % 26]) * 128
        writer.start(n, n, n, n, n, n, b"%096d" % n, b"%064d" % n)
        writer.idle(n, n)


def test_no_reader_ever_sees_a_torn_row_and_a_killed_writer_leaves_a_whole_one() -> None:
    board = Scoreboard.create()
    rng = random.Random(7)
    reads = 0
    for _ in range(25):
        pid = os.fork()
        if pid == 0:
            try:
                write_for_ever(board, 2)
            finally:
                os._exit(1)
        eventually(lambda: board.read(2).number > 0, every=0.001)
        until = time.monotonic() + rng.uniform(0, 0.02)
        while time.monotonic() < until:
            row, glance = board.read(2), board.glance(2)
            assert whole(row), row
            assert glance.trip == glance.number == glance.started
            reads += 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left = board.read(2)
        assert whole(left), left
        assert left.birth == 7
        assert left.number > 0
        board.clear(2)
    assert reads > 25
