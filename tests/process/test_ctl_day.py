"""jqctl's live view, the editing of dead letters, completion and doctor: as processes, top on a real terminal of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobqueue import codec
from jobqueue.job import Envelope, ErrorInfo
from tests.process.test_ctl import Ctl
from tests.support.servers import Server
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "supervisor.ctl"]
BYE = b"\x1b[?1049l"


def environ(url: str, **more: str) -> dict[str, str]:
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("REDIS_URL", "JQ_REDIS_ADDR", "JQD_CONFIG", "NO_COLOR", "COLUMNS", "LINES")
    }
    return clean | {"PYTHONPATH": str(ROOT), "REDIS_URL": url, "TERM": "xterm-256color"} | more


def ctl(server: Server, *arguments: str, code: int = 0, **more: str) -> str:
    return Ctl(server, server.folder)(*arguments, code=code, **more)


class Terminal:
    """A program on a pseudo-terminal; `seen` is all that it wrote."""

    def __init__(self, url: str, *arguments: str, rows: int = 30, columns: int = 110, **more: str) -> None:
        self.fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ(url, **more), start_new_session=True
        )  # fmt: skip
        self.theirs, self.seen = theirs, b""

    def read(self) -> str:
        while select.select([self.fd], [], [], 0)[0]:
            self.seen += os.read(self.fd, 65536)
        return self.seen.decode("utf-8", "replace")

    def wait_for(self, words: str) -> str:
        return eventually(lambda: words in self.read() and self.read(), 20, what=f"{words!r} on the terminal") or ""

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.theirs)


@pytest.fixture
def server(embedded_server: Server) -> Server:
    client = embedded_server.client()
    client.sadd("jq:queues", "default", "mail")
    client.lpush("jq:{mail}:pending", *[b'{"type":"x"}'] * 4321)
    worker = "0123abcd.a1b2c3.default-3.17-4242-99887"
    client.zadd("jq:{default}:leases", {worker: int(time.time() * 1000) + 600_000})
    report = {"worker": worker, "type": "report:monthly", "job_id": "\x1b[31mred", "running_seconds": 75.0}
    said = {
        "host": "0123abcd",
        "nonce": "a1b2c3",
        "hostname": "larch",
        "master_pid": 1,
        "at_ms": 1,
        "workers": [report],
    }
    client.set("jq:host:0123abcd.a1b2c3", json.dumps(said))
    return embedded_server


@pytest.fixture
def terminal(server: Server) -> Iterator[Any]:
    made: list[Terminal] = []

    def start(*arguments: str, **more: Any) -> Terminal:
        made.append(Terminal(server.url, *arguments, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_top_is_live_takes_keys_and_leaves_the_terminal_as_it_was(server: Server, terminal: Any) -> None:
    top = terminal("top", "--interval", "0.2")
    text = top.wait_for("4,321")
    assert "larch" in text
    assert "report:monthly" in text
    assert "\x1b[31mred" not in text, "a job's id commands nothing"
    server.client().delete("jq:{mail}:pending")
    server.client().lpush("jq:{default}:pending", *[b'{"type":"x"}'] * 777)
    top.wait_for("777")
    top.press("s")
    top.wait_for("sort: name")
    top.press("q")
    eventually(lambda: top.process.poll() == 0, what="its end")
    top.wait_for(BYE.decode())
    assert termios.tcgetattr(top.theirs) == top.before


def test_top_outlives_an_outage_of_redis(server: Server, terminal: Any) -> None:
    top = terminal("top", "--interval", "0.2")
    top.wait_for("4,321")
    server.stop()
    try:
        top.wait_for("not reachable")
    finally:
        server.start()
    server.client().lpush("jq:{default}:pending", *[b'{"type":"x"}'] * 888)
    top.wait_for("888")


@pytest.mark.parametrize(("rows", "columns"), [(10, 40), (24, 80), (60, 200)])
def test_top_fits_any_terminal(terminal: Any, rows: int, columns: int) -> None:
    top = terminal("top", "--interval", "0.1", "--count", "2", rows=rows, columns=columns)
    eventually(lambda: top.read() and top.process.poll() == 0, 20, what="its end")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", top.read().rpartition("\x1b[H")[2])
    lines = plain.replace("\r", "").splitlines()
    assert len(lines) <= rows + 1
    assert all(len(line.rstrip()) <= columns for line in lines)


def test_top_without_a_terminal_is_lines(server: Server) -> None:
    text = ctl(server, "top", "--interval", "0.1")
    assert "4,321" in text
    assert "\x1b" not in text
    looks = [
        json.loads(line) for line in ctl(server, "top", "--json", "--count", "2", "--interval", "0.1").splitlines()
    ]
    assert len(looks) == 2
    assert looks[1]["queues"]["mail"]["done_per_second"] == 0
    assert looks[1]["redis"]["round_trip_ms"] > 0


def bury(server: Server, job_id: str = "d", **fields: Any) -> None:
    error = ErrorInfo("TimeoutError", "smtp is slow")
    element = codec.encode(
        Envelope(**{"type": "t", "id": job_id, "payload": {"n": 1}, "attempt": 3, "error": error} | fields)
    )
    server.client().zadd("jq:{default}:dead", {element: int(time.time() * 1000)})


def test_a_dead_letter_is_edited_and_retried(server: Server) -> None:
    bury(server)
    ctl(server, "dead", "edit", "d", "--payload", "{n: 2}", code=2)
    ctl(server, "dead", "edit", "other", "--payload", "{}", code=1)
    ctl(server, "dead", "edit", "d", code=2)
    assert "is changed" in ctl(server, "dead", "edit", "d", "--payload", '{"n": 2}')
    assert json.loads(ctl(server, "dead", "show", "d", "--json"))["payload"] == {"n": 2}
    answer = json.loads(ctl(server, "dead", "edit", "d", "--payload", '{"n": 3}', "--retry", "--json"))
    assert answer == {"id": "d", "edited": True, "retried": True}
    (element,) = server.client().lrange("jq:{default}:pending", 0, -1)
    assert bytes(codec.decode(element).payload) == b'{"n": 3}'


def test_a_dead_letter_is_edited_in_an_editor(server: Server, terminal: Any, tmp_path: Path) -> None:
    bury(server)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/1/42/' \"$1\"\n")
    editor.chmod(0o755)
    edit = terminal("dead", "edit", "d", EDITOR=str(editor), VISUAL="")
    edit.wait_for("is changed")
    assert json.loads(ctl(server, "dead", "show", "d", "--json"))["payload"] == {"n": 42}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_and_knows_queues(server: Server, shell: str) -> None:
    assert "_JQCTL_COMPLETE" in ctl(server, "completion", shell)
    words = (
        {"COMP_WORDS": "jqctl pause ma", "COMP_CWORD": "2"}
        if shell != "fish"
        else {"COMP_WORDS": "jqctl pause", "COMP_CWORD": "ma"}
    )
    assert "mail" in ctl(server, _JQCTL_COMPLETE=f"{shell}_complete", **words)


def test_actions_answer_json(server: Server) -> None:
    assert json.loads(ctl(server, "pause", "mail", "--reason", "r", "--json")) == {"queue": "mail", "paused": "r"}
    assert json.loads(ctl(server, "resume", "mail", "--json")) == {"queue": "mail", "was_paused": True}
    assert json.loads(ctl(server, "promote", "nobody", "--json", code=1)) == {"id": "nobody", "promoted": False}
    assert json.loads(ctl(server, "wait", "default", "--json"))["left"] == 0
    assert json.loads(ctl(server, "wait", "mail", "--timeout", "0.1", "--json", code=1))["queues"] == {"mail": 4321}


def test_doctor_names_cause_and_cure(server: Server) -> None:
    bury(server)
    found = {f["what"]: f for f in json.loads(ctl(server, "doctor", "--json"))}
    dead = next(f for what, f in found.items() if "1 dead letter" in what)
    assert "TimeoutError" in dead["what"]
    assert "jqctl dead" in dead["cure"]
    assert any("mail: 4321 jobs wait and no worker serves it" in what for what in found)
    assert any("larch has not reported" in what for what in found)


def test_doctor_says_what_to_do_when_redis_is_away(server: Server, tmp_path: Path) -> None:
    (finding,) = json.loads(ctl(server, "doctor", "--addr", f"unix://{tmp_path}/none.sock", "--json", code=69))
    assert finding["level"] == "fault"
    assert "redis-cli" in finding["cure"]
