"""The exporter as a process: a real channel, a real scoreboard, real worker-like writers that are killed, real clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from jobqueue.settings import RedisSettings
from supervisor import channel, metrics_dir, settings, spawn
from supervisor.scoreboard import Scoreboard
from supervisor.settings import Http, Pool, Settings
from tests.support.servers import Server
from tests.support.waiting import eventually

NO_REDIS = "unix:///nonexistent/redis.sock"
Families = dict[str, dict[str, float]]


class Exporter:
    """An exporter process with the test as its master."""

    def __init__(self, folder: Path, *, url: str = NO_REDIS, listen: str = "127.0.0.1:0", **http_options: Any) -> None:
        self.board = Scoreboard.create()
        self.channel, theirs = channel.pair()
        environment = {metrics_dir.VARIABLE: str(folder)}
        self.pid: int | None = spawn.spawn_role(
            "exporter", channel_end=theirs, board_fd=self.board.fd, master_pid=os.getpid(), extra_env=environment
        )
        theirs.close()
        pools = (Pool(name="default", processes=2, queues=("default",)),)
        config = Settings(pools=pools, redis=RedisSettings(url=url), http=Http(listen, **http_options))
        sent = channel.memfd(settings.encode(config), "settings")
        self.channel.send({"kind": "start", "generation": 1, "host": "0" * 8, "nonce": "0" * 6}, [sent])
        os.close(sent)
        self.said: list[dict[str, Any]] = []
        self.listen = ""

    def wait_for(self, kind: str, timeout: float = 20.0) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            self.said += [message for message, _ in self.channel.receive()]
            return next((message for message in self.said if message["kind"] == kind), None)

        return eventually(found, timeout, what=f"{kind!r} from the exporter") or {}

    def ready(self) -> Exporter:
        self.listen = self.wait_for("ready")["listen"]
        self.status()
        return self

    def status(self, **changes: Any) -> None:
        slots = [
            {
                "slot": i,
                "pool": "default",
                "index": i,
                "state": "ready",
                "pid": 100 + i,
                "generation": 1,
                "birth": i + 1,
                "since": 0,
            }
            for i in range(2)
        ]
        status = {"kind": "status", "ready": 2, "desired": 2, "slots": slots, "restarts": [["default", "crashed", 3]]}
        status |= {"reloads": [["ok", 1]], "roles": [{"name": "steward", "pid": 9, "state": "ready"}], "generation": 1}
        self.channel.send(status | {"draining": False} | changes)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        host, _, port = self.listen.rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def metrics(self) -> Families:
        code, _, body = self.get("/metrics")
        assert code == 200
        return parsed(body)

    def exit_code(self, timeout: float = 10.0) -> int:
        _, status = eventually(self._reaped, timeout, what="the exporter's end")
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def _reaped(self) -> tuple[int, int] | None:
        assert self.pid is not None
        found = os.waitpid(self.pid, os.WNOHANG)
        return found if found[0] else None

    def close(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.channel.close()
        os.close(self.board.fd)


def parsed(body: bytes) -> Families:
    """family → {sample with labels: value}; a family twice is an error."""
    families: Families = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.name not in families, f"{family.name} is there twice"
        names = families[family.name] = {}
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"
            assert key not in names
            names[key] = sample.value
    return families


NewExporter = Callable[..., Exporter]


@pytest.fixture
def new_exporter(tmp_path: Path) -> Iterator[NewExporter]:
    made: list[Exporter] = []

    def start(**options: Any) -> Exporter:
        made.append(Exporter(tmp_path, **options))
        return made[-1]

    yield start
    for exporter in made:
        exporter.close()


@pytest.fixture
def exporter(new_exporter: NewExporter) -> Exporter:
    return new_exporter().ready()


WORKER = """
import sys, time
from supervisor.metrics import WorkerMetrics
worker = WorkerMetrics(int(sys.argv[2]), "default", sys.argv[1])
while True:
    for number in range(10):
        worker.for_type("default", f"type{number}").processed(10, [0.01] * 10)
    worker.wait("default", [0.5] * 10)
    worker.flush()
    print("flushed", flush=True)
    sys.stdin.readline()
"""


class Writer:
    """A process that counts like a worker: a batch of 100 jobs for each line it is sent."""

    def __init__(self, folder: Path, slot: int) -> None:
        command = [sys.executable, "-c", WORKER, str(folder), str(slot)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.flushed()

    def flushed(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "flushed\n"

    def kill(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def test_counters_survive_kill_9_and_a_respawn_makes_no_new_file(exporter: Exporter, tmp_path: Path) -> None:
    for _ in range(3):
        Writer(tmp_path, 0).kill()
        Writer(tmp_path, 1).kill()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("counter_w0.db", "counter_w1.db", "histogram_w0.db", "histogram_w1.db")
    ]
    families = exporter.metrics()
    assert sum(families["jobqueue_jobs_processed"].values()) == 600
    assert families["jobqueue_jobs_failed"]["jobqueue_jobs_failed_total{queue=default,type=type0}"] == 0
    waits = families["jobqueue_job_wait_seconds"]
    assert waits["jobqueue_job_wait_seconds_count{queue=default}"] == 60
    assert waits["jobqueue_job_wait_seconds_sum{queue=default}"] == pytest.approx(30)
    assert waits["jobqueue_job_wait_seconds_bucket{le=0.25,queue=default}"] == 0
    assert waits["jobqueue_job_wait_seconds_bucket{le=0.5,queue=default}"] == 60


def test_files_that_a_kill_left_torn_are_skipped_and_counted_and_the_next_worker_starts_over(
    exporter: Exporter, tmp_path: Path
) -> None:
    Writer(tmp_path, 0).kill()
    (tmp_path / "counter_w1.db").write_bytes(b"")
    (tmp_path / "histogram_w1.db").write_bytes((4000).to_bytes(4, "little") + b"\xff" * 4000)
    families = exporter.metrics()
    assert families["jobqueue_metrics_files_skipped"] == {"jobqueue_metrics_files_skipped{}": 2}
    assert sum(families["jobqueue_jobs_processed"].values()) == 100
    Writer(tmp_path, 1).kill()

    def mended() -> None:
        families = exporter.metrics()
        assert families["jobqueue_metrics_files_skipped"] == {"jobqueue_metrics_files_skipped{}": 0}
        assert sum(families["jobqueue_jobs_processed"].values()) == 200

    eventually(lambda: mended() or True)


def test_every_family_is_there_by_its_name_before_anything_has_happened(exporter: Exporter) -> None:
    from supervisor import families

    found = exporter.metrics()
    expected = {value.name for value in vars(families).values() if isinstance(value, families.Family)}
    assert expected == found.keys()
    assert found["jobqueue_redis_up"] == {"jobqueue_redis_up{}": 0}
    assert found["jobqueue_worker_restarts"] == {"jobqueue_worker_restarts_total{cause=crashed,pool=default}": 3}
    assert found["jobqueue_reload"] == {
        "jobqueue_reload_total{result=failed}": 0,
        "jobqueue_reload_total{result=ok}": 1,
    }
    assert list(found["jobqueue_build_info"].values()) == [1]
    _, headers, body = exporter.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_workers_and_busy_come_from_the_scoreboard(exporter: Exporter) -> None:
    writer = exporter.board.writer(0)
    writer.hello(birth=1, pid=100, starttime=1, generation=1, worker_id="a")
    writer.ready(True)
    writer.start(1, 1, 0, time.monotonic_ns(), 0, 0, b"id", b"type")

    def busy() -> bool:
        exporter.status()
        families = exporter.metrics()
        workers = families["jobqueue_workers"]
        assert workers["jobqueue_workers{pool=default,state=busy}"] == 1
        assert workers["jobqueue_workers{pool=default,state=idle}"] == 1
        return families["jobqueue_worker_busy_ratio"]["jobqueue_worker_busy_ratio{pool=default}"] == 1.0

    eventually(busy, every=0.1)


def test_redis_down_is_a_number_and_not_an_error_and_livez_does_not_care(exporter: Exporter) -> None:
    assert exporter.metrics()["jobqueue_redis_up"] == {"jobqueue_redis_up{}": 0}
    exporter.status()
    assert exporter.get("/livez")[0] == 200
    code, _, body = exporter.get("/healthz")
    assert code == 503
    assert "Redis" in json.loads(body)["reasons"][0]
    code, _, body = exporter.get("/stats")
    assert code == 503
    assert "Redis" in json.loads(body)["error"]


def test_a_redis_that_does_not_answer_delays_nobody_but_those_who_ask_it(new_exporter: NewExporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        exporter = new_exporter(url=f"redis://127.0.0.1:{deaf.getsockname()[1]}").ready()
        with ThreadPoolExecutor(4) as threads:
            scrapes = [threads.submit(exporter.get, "/metrics") for _ in range(3)]
            waits = []
            while not all(scrape.done() for scrape in scrapes):
                exporter.status()
                before = time.monotonic()
                assert exporter.get("/livez")[0] == 200
                waits.append(time.monotonic() - before)
            assert statistics.median(waits) < 1.0
            for scrape in scrapes:
                code, _, body = scrape.result()
                assert code == 200
                assert parsed(body)["jobqueue_redis_up"] == {"jobqueue_redis_up{}": 0}


def test_with_redis_healthz_follows_the_workers(new_exporter: NewExporter, embedded_server: Server) -> None:
    exporter = new_exporter(url=embedded_server.url).ready()
    with embedded_server.client() as client:
        client.lpush("jq:{default}:pending", b'{"type":"email:welcome"}')
        client.sadd("jq:queues", "default")
    assert exporter.metrics()["jobqueue_redis_up"] == {"jobqueue_redis_up{}": 1}
    code, _, body = exporter.get("/healthz")
    assert code == 503
    assert "no worker of pool default is ready" in json.loads(body)["reasons"]
    for slot in range(2):
        writer = exporter.board.writer(slot)
        writer.hello(birth=slot + 1, pid=100, starttime=1, generation=1, worker_id="a")
        writer.ready(True)
    assert exporter.get("/healthz")[0] == exporter.get("/readyz")[0] == 200
    stats = eventually(
        lambda: json.loads(exporter.get("/stats")[2]).get("pending") and json.loads(exporter.get("/stats")[2])
    )
    assert stats["pending"] == 1
    assert {"pending", "scheduled", "dead", "processing", "queues", "workers"} <= stats.keys()
    depth = exporter.metrics()["jobqueue_queue_depth"]
    assert depth["jobqueue_queue_depth{queue=default,state=pending}"] == 1
    exporter.status(draining=True)
    eventually(lambda: exporter.get("/healthz")[0] == 503)


def test_redis_up_follows_a_frozen_a_dead_and_a_new_server(
    new_exporter: NewExporter, new_server: Callable[..., Server]
) -> None:
    server = new_server()
    exporter = new_exporter(url=server.url).ready()

    def up_is(expected: int) -> None:
        eventually(lambda: exporter.metrics()["jobqueue_redis_up"]["jobqueue_redis_up{}"] == expected, every=0.1)

    up_is(1)
    server.pause()
    up_is(0)
    server.resume()
    up_is(1)
    server.kill()
    up_is(0)
    assert exporter.metrics()["jobqueue_queue_depth"] == {}
    server.start()
    up_is(1)


def test_livez_fails_when_the_master_falls_silent(exporter: Exporter) -> None:
    assert exporter.get("/livez")[0] == 200

    def unhealthy() -> bytes | None:
        code, _, body = exporter.get("/livez")
        return body if code == 503 else None

    body = eventually(unhealthy, every=0.1)
    assert body
    assert "silent" in json.loads(body)["reasons"][0]


def test_unknown_paths_and_methods_are_json(exporter: Exporter) -> None:
    for path, method, expected in [
        ("/nothing", "GET", 404),
        ("/metrics/", "GET", 404),
        ("/metrics", "POST", 405),
        ("/api/x", "POST", 404),
    ]:
        code, headers, body = exporter.get(path, method)
        assert (code, headers["content-type"]) == (expected, "application/json")
        assert json.loads(body)["error"]
    code, headers, body = exporter.get("/")
    assert code == 200
    assert b"jqd" in body
    assert "default-src 'none'" in headers["content-security-policy"]


def test_operator_actions_need_the_token_and_our_own_origin(new_exporter: NewExporter) -> None:
    exporter = new_exporter(token="sesame").ready()
    assert exporter.get("/api/pause", "POST")[0] == 401
    assert exporter.get("/api/pause", "POST", Authorization="Bearer wrong")[0] == 401
    assert exporter.get("/api/pause", "POST", Authorization="Bearer sesamé")[0] == 401
    assert exporter.get("/api/nothing", "POST", Authorization="Bearer sesame")[0] == 404
    assert exporter.get("/api/pause", "POST", Authorization="Bearer sesame", Origin="http://evil.example")[0] == 403
    assert (
        exporter.get("/api/nothing", "POST", Authorization="Bearer sesame", Origin=f"http://{exporter.listen}")[0]
        == 404
    )


def test_a_page_that_rebinds_its_name_to_us_reads_nothing(new_exporter: NewExporter) -> None:
    exporter = new_exporter(hosts=("jobs.example",)).ready()
    assert exporter.get("/livez", Host="jobs.example")[0] == 200
    assert exporter.get("/livez", Host="localhost:9999")[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        code, _, body = exporter.get("/stats", Host=host)
        assert code == 421
        assert json.loads(body)["error"]


def test_ipv6(new_exporter: NewExporter) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    exporter = new_exporter(listen="[::1]:0").ready()
    assert exporter.listen.startswith("[::1]:")
    assert exporter.get("/livez")[0] == 200


def test_a_taken_port_is_tried_for_5_s_then_named(new_exporter: NewExporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        exporter = new_exporter(listen=f"127.0.0.1:{port}")
        failed = exporter.wait_for("failed")
        assert failed["exit"] == 78
        assert f"port {port}" in failed["error"]
        assert "is taken" in failed["error"]
        assert exporter.exit_code() == 78
        assert [message["kind"] for message in exporter.said].count("alive") >= 8


def test_a_port_that_becomes_free_is_taken(new_exporter: NewExporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        exporter = new_exporter(listen=f"127.0.0.1:{port}")
        exporter.wait_for("alive")
    assert exporter.ready().listen == f"127.0.0.1:{port}"
    assert exporter.get("/livez")[0] == 200


def test_an_address_of_another_machine_is_named_at_once(new_exporter: NewExporter) -> None:
    exporter = new_exporter(listen="192.0.2.1:2112")
    failed = exporter.wait_for("failed", 15)
    assert failed["exit"] == 78
    assert "192.0.2.1" in failed["error"]


@pytest.mark.parametrize("farewell", ["stop", "eof", "sigterm"])
def test_it_leaves_when_told_and_when_the_master_is_gone_whatever_clients_do(exporter: Exporter, farewell: str) -> None:
    host, _, port = exporter.listen.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        match farewell:
            case "stop":
                exporter.channel.send({"kind": "stop"})
            case "eof":
                exporter.channel.close()
            case _:
                os.kill(exporter.pid or 0, signal.SIGTERM)
        assert exporter.exit_code(4.0) == 0


def test_hundreds_of_half_requests_do_not_keep_others_from_being_answered(exporter: Exporter) -> None:
    host, _, port = exporter.listen.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((host, int(port)))).sendall(b"GET / HTTP/1.1\r\nX: y")
        exporter.status()
        assert exporter.get("/livez")[0] == 200


def test_a_scrape_of_four_slots_and_ten_types_takes_less_than_50_ms(exporter: Exporter, tmp_path: Path) -> None:
    for slot in range(4):
        Writer(tmp_path, slot).kill()
    role = psutil.Process(exporter.pid)
    exporter.get("/metrics")
    before = sum(role.cpu_times()[:2])
    for _ in range(8):
        threading.Event().wait(0.25)  # so that no answer is the one before
        exporter.get("/metrics")
    spent = sum(role.cpu_times()[:2]) - before  # its own, whatever else the machine does
    assert spent / 8 < 0.05


def test_the_title_says_where_it_listens(exporter: Exporter) -> None:
    pytest.importorskip("setproctitle")
    title = Path(f"/proc/{exporter.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert title == f"jqd: exporter {exporter.listen}"


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200),
    st.sampled_from([b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", b"%s\r\n\r\n", b"POST /api/%s HTTP/1.0\r\n\r\n"]),
)
def test_no_bytes_make_it_fall_or_answer_with_a_bug(exporter: Exporter, junk: bytes, frame: bytes) -> None:
    host, _, port = exporter.listen.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(frame % junk)
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            answer = client.recv(4096)
            assert answer == b"" or answer.split()[1] in (b"400", b"404", b"405", b"421", b"200")
    exporter.status()
    assert exporter.get("/livez")[0] == 200
