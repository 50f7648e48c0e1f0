"""A master whose settings are JSON in the file named on the command line, and whose log is JSON lines on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from supervisor import master
from supervisor.notify import Notifier
from supervisor.settings import Settings, decode


class Log:
    def _write(self, event: str, **fields: Any) -> None:
        sys.stderr.write(json.dumps({"event": event, **fields, "at": time.monotonic()}) + "\n")
        sys.stderr.flush()

    info = warning = error = _write

    def follow(self, settings: Settings) -> None:
        """As the real log does after a reload."""
        self._write("log settings", level=settings.log.level)

    def reopen(self) -> None:
        self._write("reopened")


def load() -> Settings:
    return decode(Path(sys.argv[1]).read_bytes())


if __name__ == "__main__":
    log, notifier = Log(), Notifier.from_environ(os.environ)
    sys.exit(master.run(load(), load=load, config_path=sys.argv[1], notifier=notifier, log=log))
