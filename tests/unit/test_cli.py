"""The command `jqd` up to the moment the master takes over, as a process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.options import SEARCHED, Options, UsageError, candidates, parse
from tests.support.servers import Server
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
LEAST = (
    "handlers: [jobqueue.demo]\npools: [{name: p, queues: [a]}]\nredis: {url: 'embedded:redis'}\nhttp: {listen: off}\n"
)


def jqd(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JQ", "REDIS"))}
    return subprocess.run(
        [sys.executable, "-m", "supervisor.cli", *arguments],
        cwd=cwd,
        env=kept | {"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        text=True,
        timeout=30,
    )


def written(tmp_path: Path, text: str = LEAST, name: str = "jq.yaml") -> str:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


# Options.


def test_options_in_every_spelling() -> None:
    expected = Options(config="f", addr="h:1", concurrency="3", metrics_addr=":1", log_level="debug", check=True)
    rest = ["--addr", "h:1", "--concurrency=3", "--metrics-addr=:1", "--log-level", "debug"]
    for words in (
        ["-c", "f", "-t"],
        ["-cf", "--check"],
        ["--config=f", "-t"],
        ["--config", "x", "--config", "f", "-t"],
    ):
        assert parse([*words, *rest]) == expected
    assert parse([]) == Options()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--confg", "x"], "there is no option --confg, did you mean --config?"),
        (["-x"], "there is no option -x"),
        (["start"], "'start' was not expected"),
        (["-c"], "--config needs a value"),
        (["--addr="], "--addr needs a value that is not empty"),
        (["--check=yes"], "--check takes no value"),
    ],
)
def test_options_that_mean_nothing(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert str(caught.value).startswith(message)


def test_where_the_file_is_looked_for() -> None:
    assert candidates(Options(), {}) == SEARCHED
    assert candidates(Options(), {"JQD_CONFIG": "e"}) == ("e",)
    assert candidates(Options(config="o"), {"JQD_CONFIG": "e"}) == ("o",)


# The process.


def test_help_and_version() -> None:
    assert "--metrics-addr" in jqd("--help").stdout
    assert jqd("--version").stdout.startswith("jqd ")


def test_a_wrong_option_is_code_78() -> None:
    done = jqd("--confg", "x")
    assert (done.returncode, done.stdout) == (78, "")
    assert "did you mean --config?" in done.stderr


def test_no_file_is_code_78_and_says_where_it_was_looked_for(tmp_path: Path) -> None:
    done = jqd(cwd=tmp_path)
    assert done.returncode == 78
    assert "config/jobqueue.yaml and /etc/jqd/jobqueue.yaml" in done.stderr


def test_faults_are_code_78_and_all_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, LEAST + "lgo: 1\nshutdown: {drain_timeout: soon}\n")
    done = jqd("-c", path, "--log-level", "loud")
    assert done.returncode == 78
    assert f"{path}:5:1: lgo: unknown key 'lgo'; did you mean 'log'?" in done.stderr
    assert f"{path}:6:27: shutdown.drain_timeout: found 'soon'" in done.stderr
    assert "command line: --log-level: found 'loud'" in done.stderr


def test_the_file_is_found_by_environment_and_by_place(tmp_path: Path) -> None:
    written(tmp_path, LEAST + "x: 1", "config/jobqueue.yaml")
    assert "config/jobqueue.yaml:5:1: x" in jqd(cwd=tmp_path).stderr
    other = written(tmp_path, LEAST + "y: 1")
    assert f"{other}:5:1: y" in jqd(cwd=tmp_path, JQD_CONFIG=other).stderr


def test_a_signal_before_the_master_listens_is_an_ordinary_end(tmp_path: Path) -> None:
    """As process 1 of a container a signal without a handler would be dropped."""
    fifo = tmp_path / "jq.yaml"
    os.mkfifo(fifo)
    process = subprocess.Popen([sys.executable, "-m", "supervisor.cli", "-c", str(fifo)], cwd=ROOT)
    try:
        writer = eventually(lambda: _open_if_read(fifo), what="jqd reading its file")

        def ended() -> bool:
            process.send_signal(signal.SIGTERM)  # again: Python sees one that comes just before a read only after it
            return process.poll() is not None

        eventually(ended, 10, every=0.1, what="its end")
        assert process.wait() == 0
        os.close(writer)
    finally:
        process.kill()
        process.wait()


def _open_if_read(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


# --check.


def test_check_of_a_good_file_runs_nothing(tmp_path: Path) -> None:
    done = jqd("-t", "-c", written(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fine" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jq.yaml"]


def test_check_tells_faults_of_file_handlers_and_redis_at_once(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    text = "handlers: [broken.py, gone]\npools: [{name: p, queues: [a]}]\nredis: {url: 'redis://u:hunter2@127.0.0.1:1'}\nlgo: 1\n"
    done = jqd("--check", "-c", written(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 78
    assert "lgo: unknown key" in done.stderr
    assert "importing 'broken.py' failed" in done.stderr
    assert 'broken.py", line 1' in done.stderr
    assert "importing 'gone' failed" in done.stderr
    assert "redis: " in done.stderr
    assert "hunter2" not in done.stderr


def test_check_notices_a_raw_queue_without_its_handler(tmp_path: Path) -> None:
    done = jqd(
        "--check", "-c", written(tmp_path, LEAST + "queues: {n: {key: k, codec: raw, handler: notfy}}"), cwd=tmp_path
    )
    assert done.returncode == 78
    assert "queues.n.handler: none of the handlers is registered as 'notfy'" in done.stderr


def test_check_of_an_embedded_server_looks_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "redis").write_text("a file")
    done = jqd("--check", "-c", written(tmp_path), cwd=tmp_path)
    assert done.returncode == 78
    assert "redis is not a folder" in done.stderr


def test_check_reaches_redis_and_refuses_one_that_evicts(tmp_path: Path, embedded_server: Server) -> None:
    path = written(tmp_path)
    assert jqd("-t", "-c", path, "--addr", embedded_server.url).returncode == 0
    with embedded_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            done = jqd("-t", "-c", path, "--addr", embedded_server.url)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert done.returncode == 78
    assert "noeviction" in done.stderr


# PyPI's `supervisor`.


@pytest.mark.parametrize("trace", ["supervisor-4.2.5.dist-info", "supervisor/supervisord.py"])
def test_the_other_supervisor_in_the_same_place_is_noticed(tmp_path: Path, trace: str) -> None:
    shutil.copytree(ROOT / "supervisor", tmp_path / "supervisor", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / trace
    if target.suffix == ".py":
        target.touch()
    else:
        target.mkdir()
    done = jqd("-t", cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert done.returncode == 78
    assert "PyPI's package `supervisor` is installed" in done.stderr
    assert "python3 -m venv" in done.stderr


def test_the_other_supervisor_further_down_the_path_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "supervisor-4.2.5.dist-info").mkdir()
    done = jqd("-t", "-c", written(tmp_path), cwd=ROOT, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]))
    assert "PyPI" not in done.stderr
