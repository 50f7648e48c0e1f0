"""The kernel's OOM kills are read where they are counted, and nowhere to read means unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.oom import OomCounter

V2 = (
    "0::/jqd.service",
    "30 1 0:26 / {mount} rw - cgroup2 cgroup rw",
    "jqd.service/memory.events",
    "low 0\noom 1\noom_kill {n}\n",
)
V1 = (
    "4:memory:/docker/abc\n0::/",
    "31 1 0:32 /docker/abc {mount} rw - cgroup cgroup rw,memory",
    "memory.oom_control",
    "oom_kill_disable 0\nunder_oom 0\noom_kill {n}\n",
)


@pytest.mark.parametrize(("groups", "mount", "name", "text"), [V2, V1], ids=["v2", "v1 in a container"])
def test_a_kill_is_seen_once(tmp_path: Path, groups: str, mount: str, name: str, text: str) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(groups + "\n")
    (tmp_path / "self/mountinfo").write_text(mount.format(mount=tmp_path / "cgroup") + "\n")
    file = tmp_path / "cgroup" / name
    file.parent.mkdir(parents=True)
    file.write_text(text.format(n=2))
    counter = OomCounter.find(tmp_path)
    assert counter.file == file
    assert counter.rose() is False
    file.write_text(text.format(n=3))
    assert counter.rose() is True
    assert counter.rose() is False
    file.unlink()
    assert counter.rose() is None


def test_nowhere_to_look_is_unknown(tmp_path: Path) -> None:
    counter = OomCounter.find(tmp_path)
    assert (counter.file, counter.read(), counter.rose()) == (None, None, None)
