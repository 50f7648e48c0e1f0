"""The documentation keeps its word: every block runs, every link leads somewhere, few blocks are excused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NewServer
from tests.docs.story import ROOT, Story, blocks

PAGES = sorted([ROOT / "README.md", ROOT / "systemd/README.md", *ROOT.glob("docs/**/*.md")])
EXCUSED = 8  # blocks that need what a test has not: root, systemd, a cluster


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_every_block_of_a_page_works_in_order(page: Path, tmp_path: Path, new_server: NewServer) -> None:
    story = Story(tmp_path, new_server(appendonly=True).socket_path)
    try:
        for block in blocks(page):
            try:
                story.run(block)
            except Exception as error:
                raise AssertionError(f"{name(page)}:{block.line}: {error}") from error
    finally:
        story.end()


def test_few_blocks_are_excused() -> None:
    excused = [
        f"{name(page)}:{block.line} {block.words['norun']}"
        for page in PAGES
        for block in blocks(page)
        if "norun" in block.words
    ]
    assert len(excused) <= EXCUSED, excused


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_files_named_on_a_page_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"
    for path in re.findall(r"`((?:jobqueue|supervisor|tests|config|systemd|docs|benchmarks|deploy)/[\w./*@-]*)`", text):
        assert list(ROOT.glob(path.rstrip("/"))), f"{name(page)} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fenced_block_is_seen(page: Path) -> None:
    """A fence without a language would be skipped silently."""
    fences = len(re.findall(r"^```", page.read_text(), re.MULTILINE))
    assert fences == 2 * len(blocks(page)), f"{name(page)} has a block without a language"


def test_the_configuration_page_is_generated() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs/configuration.py"], capture_output=True, text=True, check=True
    ).stdout
    assert made == (ROOT / "docs/configuration.md").read_text(), (
        "run: python docs/configuration.py > docs/configuration.md"
    )
