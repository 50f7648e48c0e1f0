"""How many CPUs this process may use: what `processes: auto` means. Reads /proc and /sys; called once, at load."""

import math
import os
from pathlib import Path


def usable(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The smaller of CPU affinity and cgroup quota (v1 or v2, any ancestor), rounded up; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [affinity, *(math.ceil(quota) for quota in _quotas(proc, cgroups))]
    return max(1, min(quotas))


def _quotas(proc: Path, cgroups: Path) -> list[float]:
    """The quota, in CPUs, of this process's cgroup and of each of its ancestors that has one."""
    found: list[float] = []
    for line in _read(proc / "self/cgroup").splitlines():
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" and not controllers:
            roots, read = [cgroups, cgroups / "unified"], _quota_v2
        elif "cpu" in controllers.split(","):
            roots, read = [cgroups / "cpu", cgroups / controllers], _quota_v1
        else:
            continue
        # Inside a container the path may be the host's: then only the mount's own root is there to be read.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            folders = [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
            found += [quota for folder in folders if (quota := read(folder)) is not None]
    return found


def _quota_v2(folder: Path) -> float | None:
    limit, period = (_read(folder / "cpu.max").split() + ["", ""])[:2]
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() and int(period) else None


def _quota_v1(folder: Path) -> float | None:
    limit, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
