"""Waiting for room in a full queue: how long, and how often to look. Called by `jobqueue.client` and `jobqueue.bulk`."""

from __future__ import annotations

import random
import time

from jobqueue.errors import QueueFull

FIRST, LONGEST = 0.005, 0.25


class Patience:
    """`seconds` without any progress, then no more; None or 0: none at all."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds or 0.0
        self.progress()

    def progress(self) -> None:
        """Something went in: begin anew."""
        self._deadline, self._pause = time.monotonic() + self._seconds, FIRST

    def wait(self, refusal: QueueFull) -> None:
        """Sleep a little, or raise `refusal` if the time is up."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise refusal
        # Jitter: producers that wait together should not come back together.
        time.sleep(min(left, self._pause * random.uniform(0.5, 1.0)))
        self._pause = min(LONGEST, self._pause * 2)
