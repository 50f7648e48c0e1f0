"""How long a place that keeps failing waits before it is tried again. Pure arithmetic, no clock, no sleep.

Not a retry loop: the wait is a fact (`not_before`) that the plan compares with now, so the master stays responsive
meanwhile. Used by the slots of the fleet and by the roles. (Retry delays of *jobs* are another matter: jobqueue.retry.)
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_SECONDS = 0.1
FACTOR = 2.0
MAX_SECONDS = 30.0


def delay(failures: int, base: float = BASE_SECONDS, factor: float = FACTOR, maximum: float = MAX_SECONDS) -> float:
    """Seconds to wait after this many failures in a row: 0, base, base·factor, … never more than maximum."""
    if failures <= 0:
        return 0.0
    # Beyond this exponent the maximum rules; the bound keeps the float from overflowing after days of failures.
    return float(min(maximum, base * factor ** min(failures - 1, 64)))


@dataclass(frozen=True, slots=True)
class Backoff:
    """Consecutive failures of one place, and the monotonic time (seconds) before which it is left alone."""

    failures: int = 0
    not_before: float = 0.0

    def failed(self, now: float, *, free: int = 0, maximum: float = MAX_SECONDS) -> Backoff:
        """One more failure; the first `free` ones in a row cost no wait, none costs more than `maximum` seconds."""
        failures = self.failures + 1
        return Backoff(failures, now + delay(failures - free, maximum=maximum))

    def waiting(self, now: float) -> bool:
        return self.not_before > now
