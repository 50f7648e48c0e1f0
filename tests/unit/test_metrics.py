"""What workers count, where the files live, which hosts are answered, which verdicts are given."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import families, merge, metrics, metrics_dir
from supervisor.exporter import fleet
from supervisor.exporter.fleet import Busy, Patience, Slot, Status
from supervisor.exporter.hosts import Hosts
from supervisor.families import Family
from supervisor.scoreboard import Row
from supervisor.tally import MOST_TYPES, Buckets, Names, Recorder


class Kept:
    """A sink in plain floats: what would be in the files."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, tuple[str, ...]], list[Kept.Number]] = {}

    class Number:
        total = 0.0

        def inc(self, amount: float) -> None:
            self.total += amount

    def values(self, family: Family, labels: tuple[str, ...]) -> list[Number]:
        many = 1 if family.kind == "counter" else len(family.bounds) + 2
        return self.series.setdefault((family.name, labels), [self.Number() for _ in range(many)])

    def total(self, family: Family, *labels: str) -> float:
        return sum(number.total for number in self.series[family.name, labels][:-1] or self.series[family.name, labels])


@given(st.lists(st.lists(st.floats(-10, 1e4), max_size=70), max_size=10))
def test_no_observation_is_lost_and_each_is_in_its_bucket(batches: list[list[float]]) -> None:
    buckets, seen = Buckets(families.SECONDS), [0] * (len(families.SECONDS) + 1)
    for batch in batches:
        buckets.observe(batch)
        touched, total = buckets.take()
        assert sum(count for _, count in touched) == len(batch)
        assert total == pytest.approx(sum(max(0.0, value) for value in batch))
        for number, count in touched:
            seen[number] += count
    for number, bound in enumerate(families.SECONDS):
        assert sum(seen[: number + 1]) == sum(value <= bound for batch in batches for value in batch)


def test_counts_become_visible_by_a_flush_and_at_most_ten_times_a_second() -> None:
    sink = Kept()
    recorder = Recorder(sink)
    of = recorder.for_type("default", "email")
    recorder.flush_if_due(100.0)
    of.processed(3, [0.1, 0.2, 0.3])
    recorder.flush_if_due(100.05)
    assert recorder.pending
    recorder.flush_if_due(100.11)
    assert not recorder.pending
    of.failed(1, [0.5])
    of.retried(2)
    recorder.flush()
    labels = ("default", "email")
    assert [sink.total(family, *labels) for family in (families.PROCESSED, families.FAILED, families.RETRIED)] == [
        3,
        1,
        2,
    ]
    assert sink.total(families.DURATION, *labels) == 4


def test_a_flood_of_type_names_becomes_other() -> None:
    sink = Kept()
    recorder = Recorder(sink)
    for number in range(MOST_TYPES + 100):
        recorder.for_type("default", f"type-{number}").processed(1)
    recorder.flush()
    assert sink.total(families.PROCESSED, "default", "other") == 100
    assert len({labels for name, labels in sink.series if name == families.PROCESSED.name}) == MOST_TYPES + 1


@given(st.text(max_size=300))
def test_any_name_becomes_a_label_that_can_be_written(name: str) -> None:
    admitted = Names(10).admit(name)
    admitted.encode()
    assert len(admitted) <= 128
    assert Names(0).admit(name) == "other"


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["0.5", "1.0", "+Inf"]), st.integers(0, 9)), max_size=20)
)
def test_merged_buckets_are_cumulative_and_the_count_is_the_last_of_them(entries: list[tuple[str, str, int]]) -> None:
    contents = [
        ("histogram", [(f'["h", "h_bucket", {{"le": "{le}", "queue": "{queue}"}}, "help"]', float(n))])
        for queue, le, n in entries
    ]
    merged = merge.merge(contents, (), {})
    for queue in {queue for queue, _, _ in entries}:
        mine = [sample for sample in merged[0].samples if ("queue", queue) in sample[1]]
        values = [value for name, _, value in mine if name == "h_bucket"]
        assert values == sorted(values)
        assert mine[-1][::2] == ("h_count", sum(n for q, _, n in entries if q == queue))


def test_the_folder_is_private_and_new_at_each_start(tmp_path: Path) -> None:
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    made = Path(metrics_dir.prepare_directory(environ=environ))
    assert made.parent == tmp_path
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    (made / "counter_w0.db").write_bytes(b"old")
    assert metrics_dir.prepare_directory(environ=environ) == str(made)
    assert list(made.iterdir()) == []
    metrics_dir.remove_directory(str(made))
    assert not made.exists()


def test_what_a_killed_master_left_is_removed_by_the_next_one_and_a_living_ones_is_not(tmp_path: Path) -> None:
    namespace = os.stat("/proc/self/ns/pid").st_ino
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = (Path(metrics_dir.directory(str(tmp_path), namespace, pid)) for pid in (ended.pid, os.getppid()))
    foreign = Path(metrics_dir.directory(str(tmp_path), namespace + 1, ended.pid))
    for folder in (dead, alive, foreign):
        folder.mkdir()
    metrics_dir.prepare_directory(environ={"RUNTIME_DIRECTORY": str(tmp_path)})
    assert (dead.exists(), alive.exists(), foreign.exists()) == (False, True, True)


def test_a_folder_that_others_prepared_is_not_used(tmp_path: Path) -> None:
    trap = Path(metrics_dir.directory(str(tmp_path), os.stat("/proc/self/ns/pid").st_ino, os.getpid()))
    (tmp_path / "elsewhere").mkdir()
    trap.symlink_to(tmp_path / "elsewhere")
    made = Path(metrics_dir.prepare_directory(environ={"RUNTIME_DIRECTORY": str(tmp_path)}))
    assert made != trap
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_no_room_anywhere_names_every_place_and_its_cause(tmp_path: Path) -> None:
    with pytest.raises(metrics_dir.NoMetricsDirectory) as caught:
        metrics_dir.prepare_directory(slots=1 << 40, environ={"RUNTIME_DIRECTORY": f"{tmp_path}/absent"})
    assert f"{tmp_path}/absent: No such file or directory" in str(caught.value)
    assert "/dev/shm has" in str(caught.value)


def test_a_worker_process_does_not_import_the_http_servers_of_prometheus_client(tmp_path: Path) -> None:
    script = (
        "import sys; from supervisor import metrics; m = metrics.WorkerMetrics(0, 'default', sys.argv[1]);"
        "m.for_type('q', 't').processed(1, [0.1]); m.flush();"
        "assert not {'http.server', 'prometheus_client.exposition'} & sys.modules.keys();"
        "import prometheus_client as real; c = real.Counter('mine', 'a handler’s own'); c.inc(5);"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    body, _ = metrics.Exposition(str(tmp_path)).render([])
    assert b"mine_total 5.0" in body
    assert b'jobqueue_jobs_processed_total{queue="q",type="t"} 1.0' in body


def test_a_full_folder_ends_new_series_with_one_line_and_no_signal(tmp_path: Path) -> None:
    script = (
        "import sys, resource, logging; logging.basicConfig(format='%(message)s'); from supervisor import metrics;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "m = metrics.WorkerMetrics(0, 'default', sys.argv[1]);"
        "[(m.for_type('q', f't{n}').processed(1, [0.1]), m.flush()) for n in range(200)]"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, stderr=subprocess.PIPE, text=True)
    assert done.stderr.count("no new series") == 1
    body, _ = metrics.Exposition(str(tmp_path)).render([])
    assert b'jobqueue_jobs_processed_total{queue="q",type="t0"} 1.0' in body


def test_a_dead_workers_live_gauge_is_not_shown_and_its_successor_starts_without_it(tmp_path: Path) -> None:
    script = (
        "import sys; from supervisor import metrics; metrics.adopt('forkserver', sys.argv[1]);"
        "import prometheus_client as real;"
        "open_, all_ = (real.Gauge(name, name, multiprocess_mode=mode) for name, mode in [('live', 'livesum'), ('sum', 'sum')]);"
        "metrics.WorkerMetrics(int(sys.argv[2]), 'default', sys.argv[1]);"
        "[gauge.set(float(sys.argv[3])) for gauge in (open_, all_) if sys.argv[3] != '0']"
    )

    def run(slot: int, value: int) -> None:
        subprocess.run([sys.executable, "-c", script, str(tmp_path), str(slot), str(value)], check=True)

    run(0, 5)
    run(1, 7)
    exposition = metrics.Exposition(str(tmp_path))
    assert b"\nlive 12.0" in exposition.render([])[0]
    body, _ = exposition.render([], frozenset({1}))
    assert b"\nlive 7.0" in body
    assert b"\nsum 12.0" in body
    run(1, 0)
    assert b"\nlive 5.0" in exposition.render([])[0]


def test_identifiers_with_an_underscore_are_refused() -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        metrics.adopt("default_0", "/nowhere")


def test_without_a_folder_nothing_is_counted_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics_dir.VARIABLE, raising=False)
    worker = metrics.WorkerMetrics(0, "default")
    worker.for_type("default", "email").processed(1, [0.1])
    worker.wait("default", [0.1])
    worker.lost("default")
    worker.flush()
    assert not worker.pending


@pytest.mark.parametrize(
    ("header", "local", "everywhere"),
    [
        ("localhost:2112", True, True),
        ("LOCALHOST", True, True),
        ("127.0.0.1", True, True),
        ("[::1]:2112", True, True),
        ("metrics.example", True, True),
        ("metrics.example.:80", True, True),
        ("box7", False, True),
        ("10.1.2.3:2112", False, True),
        ("[fe80::1]", False, True),
        ("evil.example", False, False),
        ("evil.example:2112", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("localhost:2112:1", False, False),
        ("localhost:x", False, False),
        ("[::1", False, False),
        ("[::1]x1", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_only_known_host_names_are_answered(header: str | None, local: bool, everywhere: bool) -> None:
    assert Hosts.of("127.0.0.1", ("metrics.example",), "box7").allows(header) is local
    assert Hosts.of("0.0.0.0", ("metrics.example",), "box7").allows(header) is everywhere
    assert Hosts.of("::", ("metrics.example",), "box7").allows(header) is everywhere


@given(st.text())
def test_any_host_header_gets_a_verdict(header: str) -> None:
    assert Hosts.of("127.0.0.1", (), "box7").allows(header) in (True, False)


ROW = Row(1, 10, 0, 1, "w", True, "", 0, 0, 0, 0, 0, 0, 0, 0, 0, "", "")
TWO = (Slot(0, "default", 0, "ready", 10, 1), Slot(1, "default", 1, "ready", 11, 2))
STATUS = Status(100.0, 2, 2, TWO, (), (), (("steward", 1, "ready"),), 1, False)


def test_a_row_of_an_earlier_process_makes_nobody_busy() -> None:
    rows = {0: replace(ROW, start_ns=5), 1: replace(ROW, birth=1, start_ns=5)}
    counts = fleet.workers(STATUS, rows, ("default", "bulk"))
    assert (counts["default", "busy"], counts["default", "idle"], counts["bulk", "idle"]) == (1, 1, 0)


def test_busy_is_the_share_of_time_in_handlers_with_the_running_job() -> None:
    busy, second = Busy(), 1_000_000_000
    for number in range(1, 5):
        now = number * second
        running = replace(ROW, start_ns=now - number * second // 2, busy_ns=0)  # in a handler for half of each second
        busy.look(STATUS, {0: running, 1: replace(ROW, birth=2)}, now)
    assert busy.ratios(("default", "bulk")) == {"default": 0.25, "bulk": 0.0}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**10), st.integers(1, 2 * 10**9)), max_size=20))
def test_busy_stays_between_0_and_1_whatever_rows_say(looks: list[tuple[int, int, int]]) -> None:
    busy, now = Busy(), 0
    for birth, busy_ns, elapsed in looks:
        now += elapsed
        busy.look(STATUS, {0: replace(ROW, birth=birth, busy_ns=busy_ns)}, now)
        assert 0.0 <= busy.ratios(("default",))["default"] <= 1.0


def test_a_silent_master_and_an_unenforced_limit_are_not_live() -> None:
    assert fleet.not_live(None, {}, [], 100.0)
    assert fleet.not_live(STATUS, {}, [], 102.9) == []
    assert "silent" in fleet.not_live(STATUS, {}, [], 103.1)[0]
    stuck = {0: replace(ROW, start_ns=1, hard_ns=int(80e9))}
    assert fleet.not_live(STATUS, stuck, [], 89.0) == []
    assert "past its hard limit" in fleet.not_live(STATUS, stuck, [], 101.0)[0]


def test_what_is_wrong_for_a_moment_is_forgiven_and_what_lasts_is_not() -> None:
    patience, down = Patience(), replace(STATUS, roles=(("steward", 1, "starting"),), ready=0)
    wrong = fleet.wrong_for_long(down, start_timeout=60.0)
    assert patience.lasting(wrong, 0.0) == []
    later = replace(down, roles=(("steward", 1, "backoff"),))
    assert patience.lasting(fleet.wrong_for_long(later, 60.0), 91.0) == ["steward of generation 1 is not ready"]
    assert patience.lasting(wrong, 151.0) == ["steward of generation 1 is not ready", "no worker is ready"]
    assert patience.lasting({}, 152.0) == []
    assert patience.lasting(wrong, 153.0) == []


def test_ready_needs_redis_half_of_the_workers_and_one_of_each_pool() -> None:
    rows = {0: ROW, 1: replace(ROW, birth=2)}
    assert fleet.not_ready(STATUS, rows, ("default",), None) == []
    assert fleet.not_ready(STATUS, {0: ROW}, ("default",), None) == []
    assert fleet.not_ready(STATUS, rows, ("default",), "down") == ["down"]
    assert fleet.not_ready(STATUS, rows, ("default", "bulk"), None) == ["no worker of pool bulk is ready"]
    assert fleet.not_ready(replace(STATUS, draining=True), rows, ("default",), None) == ["draining"]
    joining = {0: replace(ROW, ready=False), 1: replace(ROW, birth=1)}
    assert fleet.not_ready(STATUS, joining, ("default",), None)
