"""The page at `/`, put together from `dashboard/` once: one answer, nothing fetched from elsewhere, no build step.

Not what it shows (`live`, `jobs`) and not what it does (`actions`). Whatever comes from a job or a queue's name is written as text; the
policy below makes the browser refuse anything else. Used by `supervisor.exporter.app`.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("dashboard")
SCRIPTS = ("dom", "plot", "live", "grid", "desk", "queues", "workers", "letter", "jobs", "system", "main")


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_SCRIPT = '"use strict";\n' + "\n".join(_read(f"{name}.js") for name in SCRIPTS)
_STYLE = _read("style.css")
HTML = _read("page.html").replace("/*STYLE*/", _STYLE).replace("/*SCRIPT*/", _SCRIPT)
POLICY = (
    f"default-src 'none'; script-src '{_digest(_SCRIPT)}'; style-src '{_digest(_STYLE)}'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy: only this script and this style, talking only to us, and no HTML from text."""
