"""Each peer's own environment under `.bench/`, made once, and what version is in it. `rm -rf .bench` for newer ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.peers import Peer

BENCH = Path(__file__).parents[2] / ".bench"


class NotInstalled(RuntimeError):
    """A peer that cannot be had here; the table says so and goes on without it."""


def folder(peer: Peer) -> Path:
    return BENCH / peer.environment


def install(peer: Peer) -> None:
    """Raises NotInstalled."""
    done = folder(peer) / ".installed"
    if peer.ours or (done.exists() and done.read_text() == " ".join(peer.packages)):
        return
    if peer.node and shutil.which("npm") is None:
        raise NotInstalled("there is no npm")
    print(f"installing {' '.join(peer.packages)}", flush=True)
    where = folder(peer)
    where.mkdir(parents=True, exist_ok=True)
    if peer.node:
        (where / "package.json").write_text('{"private": true}')
        _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(where), *peer.packages)
    else:
        _run(sys.executable, "-m", "venv", str(where))
        _run(str(where / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *peer.packages)
    done.write_text(" ".join(peer.packages))


def installed_version(peer: Peer) -> str:
    if peer.ours:
        return version("jqd") if _known("jqd") else "this tree"
    name = peer.packages[0].split("[")[0]
    if peer.node:
        return str(json.loads((folder(peer) / "node_modules" / name / "package.json").read_text())["version"])
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run(
        [str(folder(peer) / "bin" / "python"), "-c", code], capture_output=True, text=True
    ).stdout.strip()


def _known(name: str) -> bool:
    try:
        return bool(version(name))
    except ImportError:
        return False


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise NotInstalled((done.stderr or done.stdout).strip()[-300:])
