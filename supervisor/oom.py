"""Was it the kernel's OOM killer? A SIGKILL we did not send is that if the count of our cgroup went up.

Not a memory limit: it only reads a counter the kernel keeps. Called by the master when a child died of a SIGKILL it did
not send. Everything degrades to None (unknown): no cgroup, no permission, no such controller.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class OomCounter:
    """The kernel's count of OOM kills in our cgroup, and what it was when we last looked. `file` None: unknown."""

    file: Path | None
    seen: int | None = None

    @classmethod
    def find(cls, proc: Path = Path("/proc")) -> OomCounter:
        """The counter of this process's cgroup, v2 or v1, looked at once."""
        counter = cls(_file(proc))
        counter.seen = counter.read()
        return counter

    def read(self) -> int | None:
        """Kills so far, or None."""
        if self.file is None:
            return None
        try:
            text = self.file.read_text()
        except OSError:
            return None
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdigit():
                return int(value)
        return None

    def rose(self) -> bool | None:
        """Whether there were kills since the last look; None if that cannot be known."""
        before, self.seen = self.seen, self.read()
        if before is None or self.seen is None:
            return None
        return self.seen > before


def _file(proc: Path) -> Path | None:
    try:
        groups = (proc / "self/cgroup").read_text().splitlines()
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found = _under(mounts, "cgroup2", None, path, "memory.events")
        elif "memory" in controllers.split(","):
            found = _under(mounts, "cgroup", "memory", path, "memory.oom_control")
        else:
            continue
        if found is not None:
            return found
    return None


def _under(mounts: list[str], kind: str, option: str | None, path: str, name: str) -> Path | None:
    """The file `name` of cgroup `path`, wherever the hierarchy is mounted: in a container its root may be ours."""
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        root, point = left.split(" ")[3:5]
        found, _, options = right.split(" ", 2)
        if found != kind or (option is not None and option not in options.split(",")):
            continue
        inside = path.removeprefix(root.rstrip("/")).lstrip("/")
        for candidate in (Path(point) / inside / name, Path(point) / name):
            if candidate.exists():
                return candidate
    return None
