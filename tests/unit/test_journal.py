"""The journal: each field searchable, several lines in one value, and never a reason to stop or to wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from supervisor import journal, logs
from supervisor.settings import Log


def parse(data: bytes) -> dict[str, str]:
    """An entry as journald reads it."""
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[9 + size :]
        found[name.decode()] = value.decode()
    return found


def test_every_field_of_a_line_is_a_field_of_the_entry() -> None:
    fields = {"role": "worker", "pid": 7, "slot": "default/0", "cause": "crashed", "generation": None}
    assert parse(journal.entry("warning", "worker gone", fields, ())) == {
        "MESSAGE": "worker: worker gone  slot=default/0 cause=crashed",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "jqd",
        "JQD_EVENT": "worker gone",
        "JQD_ROLE": "worker",
        "JQD_PID": "7",
        "JQD_SLOT": "default/0",
        "JQD_CAUSE": "crashed",
    }


def test_a_traceback_stays_whole_and_cannot_forge_a_field() -> None:
    found = parse(journal.entry("error", "bug", {"role": "master", "error": "Traceback\nPRIORITY=0\nboom"}, ()))
    assert found["PRIORITY"] == "3"
    assert found["JQD_ERROR"] == "Traceback\nPRIORITY=0\nboom"
    assert found["MESSAGE"] == "master: bug\n    Traceback\n    PRIORITY=0\n    boom"


def test_names_that_journald_would_refuse_are_written_so_that_it_does_not() -> None:
    assert "JQD_USER_ID__" in parse(journal.entry("info", "x", {"user-id é": 1}, ()))


def test_secrets_are_hidden_in_message_and_fields() -> None:
    data = journal.entry("info", "at redis://:pass-word@h", {"role": "x", "error": "token tok-en"}, ("tok-en",))
    assert b"pass-word" not in data
    assert b"tok-en" not in data


def test_a_journal_that_is_full_or_gone_loses_lines_and_says_how_many(tmp_path: Path) -> None:
    address = str(tmp_path / "socket")
    log = journal.Journal(address)
    log.write("info", "nobody there", {}, ())
    assert log.lost == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(address)
        journald.settimeout(5)
        log.write("info", "somebody there", {}, ())
        assert parse(journald.recv(65536))["JQD_LOST"] == "1"
        assert parse(journald.recv(65536))["JQD_EVENT"] == "somebody there"
        for _ in range(5000):
            log.write("info", "faster than it reads", {}, ())
        assert log.lost > 0, "nobody waits for journald"
    log.close()


def test_the_journal_is_used_only_while_standard_error_is_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.fstat(2)
    assert journal.on_standard_error({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not journal.on_standard_error({"JOURNAL_STREAM": "8:1"})
    assert not journal.on_standard_error({})


def test_logs_under_systemd_go_to_the_journal_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = str(tmp_path / "socket")
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    monkeypatch.setattr(journal.Journal.__init__, "__defaults__", (address,))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(address)
        journald.settimeout(5)
        logs.configure("master", Log())
        logs.get_logger("master").warning("worker gone", slot="default/0")
        assert parse(journald.recv(65536))["JQD_SLOT"] == "default/0"
        logs.configure("master", Log(format="json"))
        logs.get_logger("master").warning("as asked for")
    assert '"event":"as asked for"' in (said := capfd.readouterr().err)
    assert "worker gone" not in said
    monkeypatch.delenv("JOURNAL_STREAM")
    logs.configure("master", Log())
