"""Log lines: one an event, safe to read, and never a reason to stop."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor import logformat, logs
from supervisor.logsink import Sink
from supervisor.settings import Log

ROOT = Path(__file__).parents[2]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """Logs of this process go to a file, which the function reads."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    path = tmp_path / "jqd.log"
    logs.configure("master", Log(file=str(path), level="debug"), slot=None, generation=3)
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    logs.configure("master", Log())
    logs.job_context(None)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    logging.captureWarnings(False)


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    text = f"from supervisor import logs\nfrom supervisor.settings import Log\nlog = logs.get_logger('master')\n{code}"
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, text=True, check=True, timeout=20, **options)


def test_an_event_is_one_json_line_with_its_context(lines: Lines) -> None:
    logs.get_logger("master").info("worker gone", role="worker", slot="default/0", cause="crashed", detail="signal 9")
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "event": "worker gone", "role": "worker", "pid": os.getpid(), "generation": 3,
        "slot": "default/0", "cause": "crashed", "detail": "signal 9",
    }  # fmt: skip


def test_the_level_is_a_threshold(tmp_path: Path, lines: Lines) -> None:
    logs.configure("master", Log(file=str(tmp_path / "jqd.log"), level="warning"))
    log = logs.get_logger("master")
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")
    assert [line["level"] for line in lines()] == ["warning", "error"]


@pytest.mark.parametrize(
    "value", [b"\xff\x00", "\ud800", 2**90, float("nan"), {1: {2}}, object(), ValueError("x"), None, Path("a")]
)
def test_any_value_can_be_logged(lines: Lines, value: object) -> None:
    logs.get_logger("master").info("x", value=value)
    assert lines()[0]["event"] == "x"


def test_a_value_that_cannot_be_shown_is_no_error(lines: Lines) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

    logs.get_logger("master").info("x", value=Bad())
    logs.get_logger("master").info("y")
    assert [line["event"] for line in lines()] == ["y"]


def test_secrets_do_not_appear(tmp_path: Path, lines: Lines) -> None:
    logs.configure("master", Log(file=str(tmp_path / "jqd.log")), secrets=["sesame"])
    log = logs.get_logger("master")
    log.info(
        "open sesame",
        url="redis://u:hunter2@h",
        more={"a": ["say sesame"]},
        error=ValueError("sesame redis://:hunter2@h"),
    )
    text = json.dumps(lines())
    assert "sesame" not in text
    assert "hunter2" not in text


def test_handlers_lines_name_their_job(tmp_path: Path, lines: Lines) -> None:
    @dataclass
    class Running:
        id: str = "4f1c"
        type: str = "email:welcome"
        attempt: int = 2

    running: list[Running] = [Running()]
    logs.configure("worker", Log(file=str(tmp_path / "jqd.log")), slot=1)
    logs.job_context(lambda: running[0] if running else None)
    logging.getLogger("shop").warning("%s left", 3, extra={"stock": 3})
    running.clear()
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("shop").exception("after the job")
    logging.getLogger("shop").warning("%d", "not a number")
    inside, after, broken = lines()
    assert inside["event"] == "3 left"
    assert (inside["role"], inside["slot"], inside["logger"], inside["stock"]) == ("worker", 1, "shop", 3)
    assert (inside["job"], inside["type"], inside["attempt"]) == ("4f1c", "email:welcome", 2)
    assert "job" not in after
    assert after["error"].rstrip().endswith("ValueError: boom")
    assert broken["event"] == "a log call failed: '%d'"


def test_pretty_lines_cannot_drive_a_terminal_or_forge_a_line() -> None:
    fields = {
        "role": "worker",
        "name": "a\x1b[31mb\u202ec",
        "none": None,
        "two words": "x y",
        "lines": "one\ntwo\x07\n",
    }
    text = logformat.pretty(0, "info", "event\nforged", fields, colour=False)
    head, *below = text.splitlines()
    assert "event\\nforged" in head
    assert "name=a\\x1b[31mb\\u202ec" in head
    assert 'two words="x y"' in head
    assert "none" not in text
    assert below == ["    one", "    two\\x07"]


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_pretty_on_a_terminal_with_colour_unless_unwanted(environ: dict[str, str], coloured: bool) -> None:
    ours, theirs = pty.openpty()
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    run("logs.configure('master', Log()); log.info('ready')", stderr=theirs, env={"TERM": "xterm"} | plain | environ)
    text = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert "ready" in text
    assert not text.startswith("{")
    assert ("\x1b[" in text) is coloured


def test_json_where_nobody_watches() -> None:
    done = run("logs.configure('master', Log()); log.info('ready')", stderr=subprocess.PIPE)
    assert json.loads(done.stderr)["event"] == "ready"


def test_a_full_disk_or_a_closed_stderr_is_no_error() -> None:
    with Path("/dev/full").open("w") as full:
        run("logs.configure('master', Log()); log.error('x')", stderr=full)
    run("import os; os.close(2); logs.configure('master', Log()); log.error('x')")


def test_a_pipe_nobody_reads_does_not_stop_the_writer() -> None:
    """The lines that do not fit are counted, and the count is told when there is room again."""
    reading, writing = os.pipe()
    saved = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        sink = Sink(None)
        for _ in range(100):
            sink.write(b"x" * 4000 + b"\n")
        assert sink.lost > 50
        lost = sink.lost
        while len(os.read(reading, 65536)) == 65536:
            pass
        sink.write(b"again\n")
        last = os.read(reading, 65536).splitlines()[-2:]
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(reading)
    assert json.loads(last[0])["lost"] == lost
    assert last[1] == b"again"


def test_a_line_for_a_pipe_is_cut_so_that_lines_do_not_mix() -> None:
    for text in ("x" * 100_000 + "the end", "\x01é😀" * 20_000 + "the end"):
        line = logformat.json_line(0, "error", "bug", {"error": text}, limit=4096)
        assert len(line) <= 4096
        assert json.loads(line)["error"].endswith("the end")


def test_a_file_that_was_moved_is_followed(tmp_path: Path, lines: Lines) -> None:
    log = logs.get_logger("master")
    log.info("before")
    (tmp_path / "jqd.log").rename(tmp_path / "jqd.log.1")
    log.reopen()
    log.info("after")
    assert [line["event"] for line in lines()] == ["after"]
    assert "before" in (tmp_path / "jqd.log.1").read_text()


def test_processes_that_no_signal_tells_follow_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.logsink.CHECK_EVERY", -1.0)
    path = tmp_path / "jqd.log"
    sink = Sink(str(path))
    sink.write(b"one\n")
    path.unlink()
    sink.write(b"two\n")
    sink.close()
    assert path.read_text() == "two\n"


def test_a_log_file_that_cannot_be_opened_is_said_on_stderr(tmp_path: Path) -> None:
    done = run(
        f"logs.configure('master', Log(file='{tmp_path}/no/x.log')); log.info('goes on')", stderr=subprocess.PIPE
    )
    first, second = map(json.loads, done.stderr.splitlines())
    assert (first["level"], first["error"], second["event"]) == ("error", "No such file or directory", "goes on")


def test_structlog_in_handlers_prints_through_us() -> None:
    pytest.importorskip("structlog")
    code = "import structlog\nlogs.configure('worker', Log(), slot=1)\nstructlog.get_logger().info('sold', item='book', left=3)"
    line = json.loads(run(code, stderr=subprocess.PIPE).stderr)
    assert (line["event"], line["slot"], line["item"], line["left"]) == ("sold", 1, "book", 3)
