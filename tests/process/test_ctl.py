"""jqctl as a process: what it prints, what it changes, how it exits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jobqueue import codec
from jobqueue.job import Envelope, ErrorInfo
from supervisor.ctl.entry import run
from tests.support.servers import Server

ROOT = Path(__file__).parents[2]


class Ctl:
    """Runs jqctl against one server, in a folder without a config file: in this process, or, where that matters, as one of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder, self.client = server, folder, server.client()

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "", **environ: str) -> str:
        done = self.run(*arguments, stdin=stdin, **environ)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "JQ_REDIS_ADDR", "JQD_CONFIG")}
        return {**clean, "PYTHONPATH": str(ROOT), "REDIS_URL": self.server.url, **more}

    def run(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        given, out, err = (
            io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="") for data in (stdin.encode(), b"", b"")
        )
        with (
            mock.patch.dict(os.environ, self.environ(environ), clear=True),
            mock.patch.object(sys, "stdin", given),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = run(list(arguments))
            except SystemExit as left:
                code = int(left.code or 0)
            for stream in (out, err):
                stream.flush()
        texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(arguments, code, *texts)

    def spawn(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "supervisor.ctl", *arguments]
        return subprocess.run(
            command, env=self.environ(environ), cwd=self.folder, capture_output=True, text=True, timeout=30, check=False
        )

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def config(self, text: str = "") -> str:
        file = self.folder / "jobqueue.yaml"
        file.write_text(f"redis: {{url: '{self.server.url}'}}\n{text}")
        return str(file)

    def bury(self, job_id: str, **fields: Any) -> None:
        element = codec.encode(
            Envelope(
                **{"type": "t", "id": job_id, "error": ErrorInfo("ValueError", "no luck", "line 1\nline 2")} | fields
            )
        )
        self.client.zadd("jq:{default}:dead", {element: 1_000})
        self.client.sadd("jq:queues", "default")


@pytest.fixture
def ctl(embedded_server: Server, tmp_path: Path) -> Ctl:
    return Ctl(embedded_server, tmp_path)


RAW = "queues: {notifications: {key: jobs, codec: raw, handler: notify}}\n"


def test_enqueue_prints_the_id_and_every_spelling_works(ctl: Ctl) -> None:
    first = ctl("enqueue", "email:welcome", '{"user_id": 42}').strip()
    second = ctl(
        "enqueue", "--type", "email:welcome", "--payload", '{"user_id": 43}', "--queue", "q", "--unique", "k"
    ).strip()
    assert ctl.json("show", first)["payload"] == {"user_id": 42}
    assert ctl.json("enqueue", "t", "--queue", "q", "--unique", "k") == {"id": second, "duplicate": True}
    assert len(ctl("enqueue", "t", "--count", "300").split()) == 300
    assert ctl.client.llen("jq:{default}:pending") == 301
    job = ctl(
        "enqueue",
        "t",
        "--delay",
        "10s",
        "--max-attempts",
        "3",
        "--time-limit",
        "5s",
        "--header",
        "a=b",
        "--expires",
        "1h",
    ).strip()
    shown = ctl.json("show", job)
    assert (shown["state"], shown["max_attempts"], shown["time_limit"], shown["headers"]) == (
        "scheduled",
        3,
        5.0,
        {"a": "b"},
    )


def test_a_file_of_jobs_in_bulk(ctl: Ctl) -> None:
    lines = [json.dumps({"type": "t", "payload": {"n": n}}) for n in range(5_000)]
    lines += [
        "",
        '{"type": "t", "queue": "q", "delay": "1h", "payload": 1e400}',
        '{"type": "t", "id": "x"}',
        '{"type": "t", "id": "x"}',
    ]
    (ctl.folder / "jobs.jsonl").write_text("\n".join(lines))
    assert ctl.json("enqueue", "--file", "jobs.jsonl") == {"enqueued": 5_002, "duplicates": 1}
    assert ctl.client.llen("jq:{default}:pending") == 5_001
    assert b'"payload":1e400' in ctl.client.zrange("jq:{q}:scheduled", 0, -1)[0], "payloads pass through untouched"
    ctl("enqueue", "--file", "-", "--type", "u", stdin='{"payload": {"a": 1}}\n')
    assert b'"type":"u"' in ctl.client.lindex("jq:{default}:pending", 0)


def test_a_bad_line_is_named_and_what_was_before_it_is_counted(ctl: Ctl) -> None:
    done = ctl.run("enqueue", "--file", "-", stdin='{"type": "t"}\n{"type": "t", "qeue": "x"}\n')
    assert done.returncode == 2 and "line 2" in done.stderr and "qeue" in done.stderr


def test_raw_queues_take_plain_text(ctl: Ctl) -> None:
    config = ctl.config(RAW)
    ctl("enqueue", "-c", config, "notify", "user1@foo.com,hello")
    ctl("-c", config, "enqueue", "--queue", "notifications", "user2@foo.com,{not json")
    ctl("enqueue", "-c", config, "--queue", "notifications", "--file", "-", stdin="a,1\r\n\nb,2\n")
    assert ctl.client.lrange("jobs", 0, -1) == [b"b,2", b"a,1", b"user2@foo.com,{not json", b"user1@foo.com,hello"]
    assert [job["raw"] for job in ctl.json("ls", "-c", config, "notifications", "--limit", "1")] == [
        "user1@foo.com,hello"
    ]
    assert "notifications" in ctl("stats", "-c", config)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("enqueue", "t", "{user_id: 42}"), "not JSON"),
        (("enqueue",), "Give a TYPE"),
        (("enqueue", "t", "{}", "--payload", "{}"), "Give a TYPE"),
        (("enqueue", "t", "--delay", "soon"), "delay is 'soon'"),
        (("enqueue", "t", "--queue", "a{b}"), "cannot be used"),
        (("enqueue", "--file", "-", "--delay", "1s"), "belong into its lines"),
        (("dead", "ls", "--where", "colour=red"), "no field 'colour'"),
        (("dead", "drop"), "--yes"),
        (("purge", "default"), "--yes"),
        (("wait", "--timeout", "soon"), "expected a duration"),
        (("nonsense",), "No such command"),
    ],
)
def test_usage_errors_exit_with_2_and_say_what_to_do(ctl: Ctl, arguments: tuple[str, ...], words: str) -> None:
    ctl.bury("d")
    done = ctl.run(*arguments)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_stats_and_listings_are_json_on_demand(ctl: Ctl) -> None:
    ctl("enqueue", "t", "--count", "3")
    ctl.client.zadd("jq:{default}:leases", {"0123abcd.a1b2c3.default-0.1-42-99": 9e12})
    stats = ctl.json("stats")
    assert stats["pending"] == 3 and stats["queues"]["default"]["latency_seconds"] < 60
    assert [w["worker"] for w in ctl.json("workers")] == ["0123abcd.a1b2c3.default-0.1-42-99"]
    assert "default/0" in ctl("workers")
    assert len(ctl.json("ls", "default", "--limit", "2")) == 2 and ctl.json("ls", "default", "--state", "dead") == []
    assert ctl("show", "nobody", code=1) == ""


def test_a_payload_cannot_command_the_terminal(ctl: Ctl) -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202eabc\r\n"
    ctl.client.lpush(
        "jq:{default}:pending",
        json.dumps({"type": f"t{evil}", "id": "e", "payload": evil}, ensure_ascii=False).replace("\x1b", ""),
    )
    ctl.client.lpush("jq:{default}:pending", evil)
    ctl.bury("d", error=ErrorInfo("E" + evil, evil, evil), type=evil)
    for arguments in (
        ("ls", "default"),
        ("ls", "default", "--json"),
        ("dead", "ls"),
        ("dead", "show", "d"),
        ("dead", "show", "d", "--json"),
    ):
        assert not set("\x1b\x07\x9b\u202e\r") & set(ctl(*arguments)), arguments


def test_dead_letters_are_listed_retried_and_dropped_by_filter(ctl: Ctl) -> None:
    for n in range(6):
        ctl.bury(f"d{n}", type="even" if n % 2 == 0 else "odd", attempt=n)
    assert [e["id"] for e in ctl.json("dead", "ls", "--where", "type=odd attempt>=3")] == ["d3", "d5"]
    shown = ctl("dead", "show", "d3")
    assert "no luck" in shown and "  line 2" in shown
    assert ctl.json("dead", "retry", "--where", "error~='NO LUCK'", "--dry-run") == {"would_retry": 6, "kept": []}
    assert ctl.client.zcard("jq:{default}:dead") == 6
    assert ctl.json("dead", "retry", "d1", "d0") == {"retried": 2, "kept": []}
    assert ctl.json("dead", "drop", "--where", "type=even", "--yes", "--rate", "100/s") == {"dropped": 2, "kept": []}
    assert sorted(e["id"] for e in ctl.json("dead", "ls")) == ["d3", "d5"]
    assert ctl.client.llen("jq:{default}:pending") == 2
    assert ctl("dead", "drop", "--where", "type=even", "--yes", code=1) == "dropped 0\n"


def test_a_unique_key_in_use_is_told(ctl: Ctl) -> None:
    ctl.bury("d", unique="k")
    holder = ctl("enqueue", "t", "--unique", "k").strip()
    done = ctl.run("dead", "retry", "--yes")
    assert done.returncode == 1 and holder in done.stderr


def test_pause_resume_cancel_promote_purge(ctl: Ctl) -> None:
    ctl("enqueue", "t", "--id", "first")
    ctl("cancel", "first")
    ctl("pause", "default", "--reason", "deploy")
    assert ctl.client.get("jq:{default}:paused") == b"deploy" and "deploy" in ctl("stats")
    ctl("resume", "default")
    later = ctl("enqueue", "t", "--delay", "1h").strip()
    ctl("promote", later)
    assert ctl.json("show", later)["state"] == "pending"
    ctl("promote", later, code=1)
    ctl("cancel", later)
    ctl("cancel", later, code=1)
    ctl("enqueue", "t", "--count", "250")
    assert ctl.json("purge", "default", "--dry-run") == {"would_purge": 250}
    assert ctl.json("purge", "default", "--yes") == {"purged": 250}


def test_wait_ends_when_the_queues_are_empty_or_the_time_is_up(ctl: Ctl) -> None:
    ctl("wait", "--timeout", "5")
    ctl("enqueue", "t")
    assert "1 jobs left: default 1" in ctl.run("wait", "--timeout", "0.3").stderr
    ctl("wait", "--timeout", "0.1", code=1)
    ctl("wait", "other", "--timeout", "0.1")
    ctl.client.delete("jq:{default}:pending")
    ctl("wait", "--timeout", "5")


def test_doctor_finds_what_is_wrong(ctl: Ctl, new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server(options=("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"))
    findings = {f["what"]: f for f in json.loads(Ctl(server, tmp_path)("doctor", "--json", code=1))}
    assert any(f["level"] == "fault" and "allkeys-lru" in what for what, f in findings.items())
    assert "round trip" in ctl("doctor")


# ---------------------------------------------------------------- trouble


def test_redis_down_or_closed_is_one_line_and_exit_code_69(ctl: Ctl, new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.client().config_set("requirepass", "geheim")
    for addr in (f"unix://{ctl.folder}/none.sock", "127.0.0.1:1", server.url, f"unix://:falsch@{server.socket_path}"):
        for command in (("stats",), ("enqueue", "t"), ("dead", "ls"), ("wait",), ("doctor",)):
            done = ctl.run(*command, "--addr", addr)
            assert done.returncode == 69, (command, done)
            assert len(done.stderr.strip().splitlines()) == 1 and "falsch" not in done.stderr
    done = ctl.spawn("stats", "--addr", "127.0.0.1:1")
    assert done.returncode == 69 and done.stderr.startswith("jqctl: Redis at redis://127.0.0.1:1 is not available")


def test_as_a_process_it_prints_and_exits(ctl: Ctl) -> None:
    done = ctl.spawn("enqueue", "t", '{"n": 1}')
    assert (done.returncode, done.stderr) == (0, "") and ctl.json("show", done.stdout.strip())["payload"] == {"n": 1}
    assert ctl.spawn("show", "nobody").returncode == 1
    assert ctl.spawn("nonsense").returncode == 2


def test_options_win_over_the_environment_and_that_over_the_file(ctl: Ctl) -> None:
    config = ctl.config("queues: {default: {max_length: 1}}\n")
    ctl("enqueue", "t", REDIS_URL="", JQD_CONFIG=config)
    done = ctl.run("enqueue", "t", "-c", config)
    assert done.returncode == 1 and "max_length is 1" in done.stderr, (
        "the file's queues count although REDIS_URL names the server"
    )
    assert ctl.run("stats", "-c", config, REDIS_URL="redis://127.0.0.1:1").returncode == 69
    ctl("stats", "-c", config, "--addr", ctl.server.url, REDIS_URL="redis://127.0.0.1:1")


def test_a_broken_config_file_is_a_usage_error_with_its_place(ctl: Ctl) -> None:
    config = ctl.config("queues: {default: {max_lenght: 1}}\n")
    done = ctl.run("stats", "-c", config)
    assert done.returncode == 2 and ":2:" in done.stderr and "max_length" in done.stderr
    done = ctl.run("stats", REDIS_URL="")
    assert done.returncode == 2 and "--addr" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(ctl: Ctl) -> None:
    ctl("enqueue", "t", '{"text": "' + "x" * 200 + '"}', "--count", "3000")
    shell = f"{sys.executable} -m supervisor.ctl ls default --limit 3000 --json | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], cwd=ctl.folder, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": ctl.server.url},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
