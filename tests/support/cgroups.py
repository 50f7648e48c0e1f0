"""A control group of a test's own, v1 or v2, where one may be made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def group(controller: str) -> Iterator[Path | None]:
    """The folder of a new, empty group with this controller; None if it may not be made. Gone at the end, once it is empty."""
    folder = _make(controller)
    try:
        yield folder
    finally:
        if folder is not None:
            eventually(lambda: not (folder / "cgroup.procs").read_text().split(), what="an empty group")
            folder.rmdir()


def entering(folder: Path) -> tuple[str, ...]:
    """What to start a command through, so that it is born in the group."""
    return "sh", "-c", f'echo $$ >{folder}/cgroup.procs && exec "$@"', "sh"


def _make(controller: str) -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = ROOT / controller if controllers else ROOT
        for parent in (root / path.strip("/"), root):
            folder = parent / f"jqd-test-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            if any(folder.glob(f"{controller}.*")):
                return folder
            folder.rmdir()
    return None
