"""The command line of `jqd`, as data. Pure. Not argparse, which would cost every start 15 ms for seven options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HELP: Final = """\
Usage: jqd [-c FILE] [OPTIONS]

Run background jobs from Redis with supervised worker processes, in the foreground.

  -c, --config FILE          settings; without it $JQD_CONFIG, then config/jobqueue.yaml,
                             then /etc/jqd/jobqueue.yaml
  -t, --check                check the file, import the handlers, reach Redis; print every
                             fault; run nothing
      --addr URL|HOST:PORT   Redis, in place of redis.url      ($JQ_REDIS_ADDR, $REDIS_URL)
      --concurrency N        processes of the first pool, or auto        ($JQ_CONCURRENCY)
      --metrics-addr HOST:PORT
                             where the exporter listens, or off         ($JQ_METRICS_ADDR)
      --log-level LEVEL      debug, info, warning or error
      --version              print the version
  -h, --help                 print this

An option wins over its environment variable, which wins over the file.

Signals: TERM, INT drain (again: abort) · QUIT abort now · HUP reload · TTIN, TTOU one worker
more, less in the first pool · USR1 reopen logs · USR2 dump state to the log.

Exit codes: 0 stopped, everything was put back · 70 a bug · 75 stopped, jobs stayed in
processing lists · 78 config or handlers unusable.
"""

SEARCHED: Final = ("config/jobqueue.yaml", "/etc/jqd/jobqueue.yaml")
_VALUED: Final = ("config", "addr", "concurrency", "metrics-addr", "log-level")
_FLAGS: Final = ("check", "version", "help")
_SHORT: Final = {"-c": "config", "-t": "check", "-h": "help"}


class UsageError(Exception):
    """The command line cannot be understood."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; `jqd --help` shows the options")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; None: not given."""

    config: str | None = None
    addr: str | None = None
    concurrency: str | None = None
    metrics_addr: str | None = None
    log_level: str | None = None
    check: bool = False
    version: bool = False
    help: bool = False

    def overrides(self) -> dict[str, str | None]:
        """For `supervisor.settings.load`."""
        return {
            "addr": self.addr,
            "concurrency": self.concurrency,
            "metrics_addr": self.metrics_addr,
            "log_level": self.log_level,
        }


def parse(arguments: Sequence[str]) -> Options:
    """Options from the words after the program's name. Raises UsageError. The last of two equal options wins."""
    found: dict[str, str | bool] = {}
    words = list(arguments)
    while words:
        name, value = _split(words.pop(0))
        if name in _FLAGS:
            if value is not None:
                raise UsageError(f"--{name} takes no value")
            found[name] = True
            continue
        if value is None:
            if not words:
                raise UsageError(f"--{name} needs a value")
            value = words.pop(0)
        if not value:
            raise UsageError(f"--{name} needs a value that is not empty")
        found[name.replace("-", "_")] = value
    return Options(**found)  # type: ignore[arg-type]


def candidates(options: Options, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Configuration files to look for, in order; one that was named is the only one."""
    named = options.config or environ.get("JQD_CONFIG")
    return (named,) if named else SEARCHED


def _split(word: str) -> tuple[str, str | None]:
    """The option's long name and the value stuck to it, if there is one."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        if name in (*_VALUED, *_FLAGS):
            return name, value if equals else None
        import difflib

        near = difflib.get_close_matches(name, (*_VALUED, *_FLAGS), n=1)
        raise UsageError(f"there is no option --{name}" + (f", did you mean --{near[0]}?" if near else ""))
    if word[:2] in _SHORT:
        return _SHORT[word[:2]], word[2:].removeprefix("=") or None
    raise UsageError(f"there is no option {word}" if word.startswith("-") else f"{word!r} was not expected")
