"""The settle command of one worker for one home queue and one order, packed once but for its numbers.

Packing keys and constants anew costs more than all else a worker does for a small trip. Only what most trips are, jobs that succeeded
and plain claims, goes this way; others are packed from their arguments (`jobqueue.redis.workerverbs`,
the only caller). Numbers have a fixed width, so that their lengths are constants too. Pure.
"""

from __future__ import annotations

from typing import Any

_NUMBERS = b"$16\r\n%016d\r\n" * 2 + b"$6\r\n%06d\r\n" * 2 + b"$1\r\n%d\r\n"  # trip applied keep want return_next
_ACKS = b"$1\r\nA\r\n$6\r\n%06d\r\n"


class TripCommand:
    """`keys`: of a trip without operations that need more. `queues`: those it touches, in claiming order. `constants`: its
    first arguments. See lua/settle.lua."""

    __slots__ = ("_claims", "_settles", "constants", "keys", "queues")

    def __init__(self, sha: str, keys: list[str], queues: tuple[str, ...], constants: tuple[Any, ...]) -> None:
        self.keys, self.queues, self.constants = keys, queues, constants
        fixed = [str(part).encode() for part in ("EVALSHA", sha, len(keys), *keys, *constants)]
        body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in fixed)
        self._claims = b"*%d\r\n%s" % (len(fixed) + 5, body)
        self._settles = b"*%d\r\n%s" % (len(fixed) + 7, body)

    def packed(self, acks: int, trip: int, applied: int, keep: int, want: int, return_next: bool) -> bytes:
        """A trip that acks the oldest `acks` jobs and settles nothing else."""
        numbers = _NUMBERS % (trip, applied, keep, want, return_next)
        return self._settles + numbers + _ACKS % acks if acks else self._claims + numbers
