"""The demo handlers do what they promise, the deadly ones in a process of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jobqueue import demo
from tests.support.waiting import eventually


def test_there_is_one_for_each_promised_type() -> None:
    code = "from jobqueue.registry import load; print(*sorted(load(['jobqueue.demo']).handlers))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == sorted(
        [
            "email:welcome",
            "demo:flaky",
            "demo:sleep",
            "demo:cpu",
            "demo:crash",
            "demo:leak",
            "demo:hang",
            "demo:append",
            "notify",
        ]
    )


def test_a_welcome_prints_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    demo.welcome.handler.run(b'{"user_id":42}')
    assert capfd.readouterr().out == "sending welcome email to user 42\n"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"user1@foo.com,application installed", "sending notification 'application installed' to user1@foo.com\n"),
        (b"user1@foo.com, a, b\n", "sending notification 'a, b' to user1@foo.com\n"),
        (b"user1@foo.com", "sending notification '' to user1@foo.com\n"),
    ],
)
def test_a_notification_prints_text_and_recipient(capfd: pytest.CaptureFixture[str], body: bytes, line: str) -> None:
    demo.notify.handler.run_raw(body)
    assert capfd.readouterr().out == line


def test_flaky_fails_as_often_as_asked() -> None:
    demo.flaky(0.0)
    with pytest.raises(demo.Flaked):
        demo.flaky(1.0)


def test_cpu_uses_the_cpu_for_that_long() -> None:
    before = time.process_time()
    demo.cpu(20)
    assert time.process_time() - before >= 0.02


def test_appended_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    writers = [
        threading.Thread(target=lambda n=n: [demo.append(str(path), f"{n}" * 50) for _ in range(50)]) for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 200
    assert all(len(line) == 50 and len(set(line)) == 1 for line in lines)


def test_a_leak_stays() -> None:
    before = len(demo._leaked)
    demo.leak(0.1)
    assert len(demo._leaked) == before + 1
    demo._leaked.pop()


def test_a_crash_is_a_kill() -> None:
    ended = subprocess.run([sys.executable, "-c", "from jobqueue import demo; demo.crash()"])
    assert ended.returncode == -signal.SIGKILL


def test_a_hang_hears_no_signal_handler_and_dies_only_of_a_kill() -> None:
    code = (
        "import signal; from jobqueue import demo\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True))\n"
        "print('hanging', flush=True); demo.hang()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        used = lambda: sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))  # noqa: E731
        start = used()
        eventually(lambda: used() > start + 5, what="the hang's use of the CPU")
        process.send_signal(signal.SIGTERM)
        start = used()
        eventually(lambda: used() > start + 10, what="going on after SIGTERM")
        assert process.poll() is None
        process.kill()
        assert process.stdout.read() == ""
        assert process.wait(10) == -signal.SIGKILL
