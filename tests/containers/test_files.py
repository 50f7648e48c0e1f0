"""Images and manifests cannot be built here, but what they name exists and what they promise to each other agrees."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from supervisor.settings import load
from tests.docs.story import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
KUBERNETES: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/jqd.yaml").read_text()))
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [one for one in KUBERNETES if one["kind"] == kind]
    return found


def test_every_file_that_is_copied_or_mounted_exists() -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    ]
    mounted = [
        v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", ()) if v.startswith("./")
    ]
    assert [path for path in (*copied, *mounted) if not (ROOT / path).exists()] == []
    allowed = (ROOT / ".dockerignore").read_text().split()
    assert [path for path in copied if f"!{path}" not in allowed] == [], "what is copied must not be ignored"


def test_named_volumes_are_declared_and_dependencies_exist() -> None:
    used = {
        v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", ()) if not v.startswith("./")
    }
    assert used == COMPOSE["volumes"].keys()
    assert all(
        COMPOSE["services"].keys() >= set(service.get("depends_on", ())) for service in COMPOSE["services"].values()
    )


def test_the_image_does_not_run_as_root_and_has_a_health_check_and_a_handler_of_term() -> None:
    assert re.search(r"^USER (?!0|root)\d+", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["jqd"\]$', DOCKERFILE, re.MULTILINE), (
        "the exec form: a shell would keep the signals"
    )


@pytest.mark.parametrize("where", ["compose", "kubernetes", "systemd"])
def test_time_to_stop_is_longer_than_the_drain(where: str) -> None:
    production = load(str(ROOT / "config/production.yaml"), environ={})
    drain = production.shutdown.drain_timeout + production.shutdown.abort_grace
    match where:
        case "compose":
            given = seconds(COMPOSE["services"]["jqd"]["stop_grace_period"])
        case "kubernetes":
            pod = of_kind("Deployment")["spec"]["template"]["spec"]
            given = pod["terminationGracePeriodSeconds"] - int(
                pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]
            )
        case _:
            unit = (ROOT / "systemd/jqd.service").read_text()
            given = seconds(re.search(r"^TimeoutStopSec=(\S+)", unit, re.MULTILINE)[1])  # type: ignore[index]
    assert given > drain + 10, "and the last sweep"


def test_the_settings_of_the_manifest_are_valid(tmp_path: Any) -> None:
    path = tmp_path / "jobqueue.yaml"
    path.write_text(of_kind("ConfigMap")["data"]["jobqueue.yaml"])
    settings = load(str(path), environ={"REDIS_URL": "redis://redis:6379/0"})
    assert settings.http.listen == "0.0.0.0:2112"
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.shutdown.drain_timeout


def test_probes_ask_for_what_the_exporter_answers_and_the_trigger_for_a_key_that_exists() -> None:
    [container] = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    redis = of_kind("ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert redis["listName"] == "jq:{default}:pending"
    volumes = {v["name"] for v in of_kind("Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
