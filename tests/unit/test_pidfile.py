"""The pidfile: one owner, whatever happened to the last one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor.pidfile import Pidfile, PidfileLocked


def test_it_holds_our_pid_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "run" / "jqd.pid"
    pidfile = Pidfile(path)
    pidfile.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()
    assert not path.exists()
    pidfile.release()


def test_a_second_owner_is_refused_and_told_who(tmp_path: Path) -> None:
    path = tmp_path / "jqd.pid"
    first = Pidfile(path)
    first.acquire()
    with pytest.raises(PidfileLocked, match="stop that jqd") as refused:
        Pidfile(path).acquire()
    assert (refused.value.path, refused.value.pid) == (path, os.getpid())
    first.release()
    second = Pidfile(path)
    second.acquire()
    second.release()


def test_a_stale_file_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "jqd.pid"
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Pidfile(path).acquire()
            os.write(write, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    with pytest.raises(PidfileLocked):
        Pidfile(path).acquire()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert path.exists()
    pidfile = Pidfile(path)
    pidfile.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()


def test_only_its_owner_unlinks_it(tmp_path: Path) -> None:
    path = tmp_path / "jqd.pid"
    pidfile = Pidfile(path)
    pidfile.acquire()
    pid = os.fork()
    if pid == 0:
        try:
            pidfile.release()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert path.exists()
    path.unlink()
    path.write_text("somebody else's\n")
    pidfile.release()
    assert path.read_text() == "somebody else's\n"
