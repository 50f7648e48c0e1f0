"""Who may import what: the boundaries between the rooms, read from the sources, and what a start may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("jobqueue/**/*.py"), *ROOT.glob("supervisor/**/*.py")])

PURE = [
    "jobqueue/address.py", "jobqueue/job.py", "jobqueue/outcome.py", "jobqueue/retry.py", "jobqueue/settings.py", "jobqueue/units.py",
    "supervisor/backoff.py", "supervisor/desired.py", "supervisor/fleet.py", "supervisor/options.py", "supervisor/rows.py",
    "supervisor/settings.py", "supervisor/slot.py",
]  # fmt: skip
IMPURE = {
    "asyncio", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib", "random", "redis", "select", "selectors", "shutil",
    "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "yaml",
}  # fmt: skip
CORE = [f"supervisor/{name}.py" for name in ("master", "loop", "spawn", "channel", "fleet", "backoff")]


def imported(path: Path) -> Iterator[str]:
    """The full name of every module that `path` imports, anywhere in it; imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT).with_suffix("").parts)
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def offenders(paths: list[Path], *roots: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imported(path)
        if any(name == root or name.startswith(f"{root}.") for root in roots)
    ]


def under(folder: str) -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / folder)]


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 40
    assert "supervisor.master" in imported(ROOT / "supervisor/cli.py")


def test_the_library_never_imports_the_supervisor() -> None:
    assert offenders(under("jobqueue"), "supervisor") == []


def test_redis_is_imported_in_one_package() -> None:
    elsewhere = [path for path in SOURCES if path not in under("jobqueue/redis")]
    assert offenders(elsewhere, "redis", "hiredis") == []


def test_prometheus_client_is_imported_in_one_module() -> None:
    elsewhere = [path for path in SOURCES if path != ROOT / "supervisor/metrics.py"]
    assert offenders(elsewhere, "prometheus_client") == []


@pytest.mark.parametrize("name", PURE)
def test_decisions_import_no_input_or_output(name: str) -> None:
    assert offenders([ROOT / name], *IMPURE) == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_of_the_supervisor_knows_no_jobs(name: str) -> None:
    assert offenders([ROOT / name], "jobqueue", "redis", "hiredis", "prometheus_client") == []


def test_nothing_imports_the_tests_or_the_benchmarks() -> None:
    assert offenders(SOURCES, "tests", "benchmarks") == []


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("jobqueue", {"redis", "yaml", "asyncio", "logging"}),
        ("jobqueue.settings", {"redis", "yaml", "asyncio", "logging", "jobqueue.client"}),
        ("supervisor.cli", {"yaml", "msgspec", "logging", "argparse", "asyncio", "subprocess"}),
        ("supervisor.logs", {"structlog", "logging", "asyncio", "yaml", "redis"}),
        ("supervisor.master", {"redis", "prometheus_client", "asyncio", "jobqueue.client", "yaml"}),
        ("supervisor.roles.steward", {"redis", "prometheus_client", "starlette", "uvicorn"}),
        ("supervisor.roles.worker", {"redis", "asyncio", "starlette", "uvicorn"}),
    ],
)
def test_what_starts_quickly_imports_little(module: str, never: set[str]) -> None:
    """Everything is running again within a second only if no process imports what it does not need."""
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert never.isdisjoint(loaded), sorted(never & set(loaded))
