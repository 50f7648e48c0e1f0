"""What a SIGHUP means: reload, or that the terminal we were started from is gone. Called by the master."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import Enum


class Hangup(Enum):
    RELOAD = "reload"
    DRAIN = "drain"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Terminal:
    """`had`: we were started on one. `kept_off`: by somebody who wants us to outlive it (nohup)."""

    had: bool
    kept_off: bool

    @classmethod
    def at_start(cls) -> Terminal:
        """Before any handler is installed."""
        return cls(_is_there(), signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)

    def judge_hangup(self) -> Hangup:
        if not self.had or _is_there():
            return Hangup.RELOAD
        return Hangup.IGNORE if self.kept_off else Hangup.DRAIN


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
