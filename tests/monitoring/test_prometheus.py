"""Alerts and dashboard against a real Prometheus and the metrics a real jqd exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from supervisor import families
from tests.conftest import NewServer
from tests.docs.story import ROOT, free_port
from tests.support.jqd import Jqd, job, push
from tests.support.waiting import eventually

ALERTS = ROOT / "config/prometheus/alerts.yaml"
DASHBOARD = ROOT / "config/grafana/dashboard.json"
OURS = re.compile(r"\bjobqueue_[a-z_]+")
RECORDED_BY_USERS = {"jobqueue_latency_objective_seconds"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


def exported() -> set[str]:
    """Names of all series, as families.py declares them; that they are really exported is tested below."""
    names = set()
    for family in vars(families).values():
        if isinstance(family, families.Family):
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}[family.kind]
            names |= {family.name + suffix for suffix in suffixes}
    return names


def promtool(*words: str, text: str = "") -> None:
    done = subprocess.run(
        ["promtool", *words], input=text, capture_output=True, text=True, timeout=60, cwd=ALERTS.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_alerts_do_what_their_unit_tests_say() -> None:
    promtool("check", "rules", ALERTS.name)
    promtool("test", "rules", "alerts_test.yaml")


def test_every_alert_has_a_unit_test_a_summary_and_an_action() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load((ALERTS.parent / "alerts_test.yaml").read_text())["tests"]
    fires = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == fires
    assert all(rule["annotations"].keys() == {"summary", "action"} for rule in rules)


@pytest.mark.parametrize("path", [ALERTS, DASHBOARD, ROOT / "docs/monitoring.md"], ids=lambda p: p.name)
def test_only_exported_metrics_are_asked_for(path: Path) -> None:
    assert (
        set(OURS.findall(path.read_text()))
        - exported()
        - RECORDED_BY_USERS
        - {f.removesuffix("_bucket") for f in exported()}
        == set()
    )


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    assert [
        name for name in sorted(exported()) if not re.search(rf"`{re.sub('_(bucket|sum|count)$', '', name)}`", page)
    ] == []


def test_the_dashboard_is_generated_and_its_panels_do_not_overlap() -> None:
    made = subprocess.run([sys.executable, ROOT / "docs/grafana.py"], capture_output=True, text=True, check=True).stdout
    assert made == DASHBOARD.read_text(), "run: python docs/grafana.py > config/grafana/dashboard.json"
    panels = json.loads(made)["panels"]
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(places) == len(panels) == len({p["id"] for p in panels})


@pytest.fixture
def jqd(tmp_path: Path, new_server: NewServer) -> Iterator[Jqd]:
    """With an exporter; its port as `jqd.port`."""
    port = free_port()
    one = Jqd(tmp_path, new_server().url, start=False, http={"listen": f"127.0.0.1:{port}"})
    one.port = port  # type: ignore[attr-defined]
    one.start()
    yield one
    one.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def reachable(url: str) -> str | None:
    try:
        return get(url)
    except OSError:
        return None


@needs_promtool
def test_metrics_pass_promtool_and_all_families_are_there(jqd: Jqd, new_server: NewServer) -> None:
    url = f"http://127.0.0.1:{jqd.port}/metrics"  # type: ignore[attr-defined]
    eventually(lambda: reachable(url), 20)
    text = eventually(lambda: (page := get(url)) and "jobqueue_lease_remaining_seconds " in page and page, 10)
    assert set(re.findall(r"^# TYPE (jobqueue_\S+)", text, re.MULTILINE)) >= {
        family.name + ("_total" if family.kind == "counter" else "")
        for family in vars(families).values()
        if isinstance(family, families.Family) and family not in families.COUNTED
    }
    promtool("check", "metrics", text=text)


@needs_prometheus
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_alert_fires_and_clears_in_a_real_prometheus(jqd: Jqd, tmp_path: Path) -> None:
    """Scraped each second; the alert's `for` shortened, its expression as it is."""
    rules = yaml.safe_load(ALERTS.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    rules["groups"][0]["interval"] = "1s"
    objective = {"record": "jobqueue_latency_objective_seconds", "labels": {"queue": "default"}, "expr": "vector(2)"}
    rules["groups"].insert(0, {"name": "objectives", "interval": "1s", "rules": [objective]})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    target = f"127.0.0.1:{jqd.port}"  # type: ignore[attr-defined]
    scrape = {
        "job_name": "jqd",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [{"targets": [target]}],
    }
    (tmp_path / "prometheus.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "scrape_configs": [scrape]})
    )
    port = free_port()
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        client = redis.Redis(unix_socket_path=jqd.url.removeprefix("unix://"))
        server = f"http://127.0.0.1:{port}"

        def firing() -> set[str]:
            alerts: list[Any] = json.loads(get(f"{server}/api/v1/alerts"))["data"]["alerts"]
            return {
                a["labels"]["alertname"]
                for a in alerts
                if a["state"] == "firing" and a["labels"].get("queue", "default") == "default"
            }

        def up() -> bool:
            found = reachable(f"{server}/api/v1/query?query=jobqueue_redis_up")
            return found is not None and [r["value"][1] for r in json.loads(found)["data"]["result"]] == ["1"]

        eventually(up, 40, every=0.2)
        assert "JobQueueLatencyHigh" not in firing()
        push(client, *(job("sleep", {"name": str(n), "seconds": 1.5}, enqueued_at=1) for n in range(8)))
        eventually(lambda: "JobQueueLatencyHigh" in firing(), 20, every=0.2)
        eventually(lambda: len(jqd.runs("slept")) == 8, 30)
        eventually(lambda: "JobQueueLatencyHigh" not in firing(), 20, every=0.2)
        client.close()
    finally:
        prometheus.terminate()
        prometheus.wait(20)
