"""The standard library's logging, led into ours: what handlers and libraries log becomes lines like all others.

Imported only where other people's code runs (`logs.RUNS_FOREIGN_CODE`). In a worker each line says which job it belongs to.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from supervisor import logs

_ORDINARY = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class Bridge(logging.Handler):
    """The one handler of the root logger."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def emit(self, record: logging.LogRecord) -> None:
        try:
            logs.write(_level(record.levelno), self.role, record.getMessage(), self._fields(record))
        except Exception:  # noqa: BLE001 - a format string and its arguments that do not fit
            logs.write("error", self.role, f"a log call failed: {record.msg!r}", {"logger": record.name})

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {"logger": record.name, **logs.job_fields()}
        fields |= {key: value for key, value in vars(record).items() if key not in _ORDINARY and key != "event"}
        if record.exc_info:
            fields["error"] = "".join(traceback.format_exception(*record.exc_info))
        return fields


def capture(role: str, threshold: int) -> None:
    """Make the bridge the root logger's only handler; `structlog`, if handlers have imported it, then prints through it."""
    root = logging.getLogger()
    root.handlers[:] = [Bridge(role)]
    root.setLevel(threshold)
    logging.captureWarnings(True)
    structlog = sys.modules.get("structlog")
    if structlog is not None and not structlog.is_configured():
        structlog.configure(
            logger_factory=structlog.stdlib.LoggerFactory(),
            processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
        )


def _level(number: int) -> str:
    return next((name for name, least in reversed(logs.LEVELS.items()) if number >= least), "debug")
