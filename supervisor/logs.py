"""One line an event, on standard error, in a file or in the journal: pretty for people, JSON for machines. Every process of ours calls it.

Not the standard library's logging, which handlers use: in processes that run other people's code `configure` leads that
here as well (`supervisor.stdlog`), so that all lines look alike. Two rules shape this module. Importing it takes a few
milliseconds (structlog takes 150, in every process of a tree that must be back within a second). And a log may lose a line
but never raises and never blocks: the master has to stay awake while the disk is full or nobody reads its standard error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from supervisor import journal, logformat
from supervisor.logflood import Flood
from supervisor.logsink import Sink
from supervisor.settings import Log, Settings
from supervisor.settings import secrets as settings_secrets

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
RUNS_FOREIGN_CODE: Final = frozenset({"worker", "forkserver", "exporter", "check"})


class Job(Protocol):
    """What a line says of the job it belongs to."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class _State:
    """What `configure` sets, for this process."""

    sink = Sink(None)
    journal: journal.Journal | None = None
    threshold = LEVELS["info"]
    pretty = False
    colour = False
    context: Mapping[str, Any] = {}
    secrets: tuple[str, ...] = ()
    job: Callable[[], Job | None] | None = None
    keep: Callable[[bytes], None] | None = None
    flood = Flood()


class Logger:
    """Writes lines for one role. `event` says what happened, in the words of the glossary; the rest are its fields."""

    __slots__ = ("role",)

    def __init__(self, role: str) -> None:
        self.role = role

    def debug(self, event: str, **fields: Any) -> None:
        if _State.threshold <= 10:
            write("debug", self.role, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        if _State.threshold <= 20:
            write("info", self.role, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        if _State.threshold <= 30:
            write("warning", self.role, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        write("error", self.role, event, fields)

    def reopen(self) -> None:
        """See the function `reopen`."""
        reopen()

    def follow(self, settings: Settings) -> None:
        """From now on log as a reload's settings say. What was secret before stays it."""
        configure(self.role, settings.log, secrets={*_State.secrets, *settings_secrets(settings)})


def configure(role: str, settings: Log, *, secrets: Iterable[str] = (), **context: Any) -> None:
    """Say how this process logs. `context` (slot, pool, generation, …) is added to each of its lines, as is its pid.

    `secrets` never appear in a line, whatever it says. Call it again after a fork or when settings have changed.
    """
    _State.sink.close()
    sink = _State.sink = Sink(settings.file)
    _State.threshold = LEVELS[settings.level]
    if _State.journal is not None:
        _State.journal.close()
    to_journal = settings.file is None and settings.format == "auto" and journal.on_standard_error(os.environ)
    _State.journal = journal.Journal() if to_journal else None
    terminal = sink.is_terminal()
    _State.pretty = settings.format == "pretty" or (settings.format == "auto" and terminal)
    _State.colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    _State.context = {"pid": os.getpid()} | {key: value for key, value in context.items() if value is not None}
    _State.secrets = tuple(sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True))
    _State.job = _State.keep = None
    _State.flood = Flood()
    if sink.error is not None:
        get_logger(role).error("the log file cannot be used, standard error is", file=settings.file, error=sink.error)
    if role in RUNS_FOREIGN_CODE:
        from supervisor import stdlog

        stdlog.capture(role, _State.threshold)


def get_logger(role: str) -> Logger:
    """A logger whose lines say `role`; before `configure`, JSON lines on standard error."""
    return Logger(role)


def reopen() -> None:
    """Open the log file again, after it was moved away. Files also notice by themselves, within a second."""
    _State.sink.reopen()


def job_context(current: Callable[[], Job | None] | None) -> None:
    """In a worker: `current()` is the job that runs, or None; the lines that handlers write name it."""
    _State.job = current


def keep(also: Callable[[bytes], None] | None) -> None:
    """In a worker: `also` gets each line that is written (`supervisor.lastwords`)."""
    _State.keep = also


def job_fields() -> Mapping[str, Any]:
    """What runs now in this process, for `supervisor.stdlog`."""
    job = _State.job() if _State.job is not None else None
    return {} if job is None else {"job": job.id, "type": job.type, "attempt": job.attempt}


def write(level: str, role: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write one line. Fields win over the process's context. Never raises."""
    try:
        now = time.time()
        for held in _State.flood.over(now):
            _line(now, held.level, held.event, {"role": held.role, **_State.context, "repeated": held.times})
        line = {"role": role, **_State.context, **fields}
        if _State.flood.passes(now, level, role, event, (level, event, str(line))):
            _line(now, level, event, line)
    except Exception:  # noqa: BLE001, S110 - whatever is wrong with a line, the work goes on
        pass


def _line(now: float, level: str, event: str, line: Mapping[str, Any]) -> None:
    if _State.pretty:
        text = logformat.pretty(now, level, event, line, colour=_State.colour, secrets=_State.secrets)
        data = text.encode("utf-8", "backslashreplace")
    else:
        data = logformat.json_line(now, level, event, line, secrets=_State.secrets, limit=_State.sink.limit)
    if _State.journal is not None:
        _State.journal.write(level, event, line, _State.secrets)
    else:
        _State.sink.write(data)
    if _State.keep is not None:
        _State.keep(data)
