"""The settle command of one worker for one home queue and one order, packed once but for its numbers.

Packing keys and constants anew costs more than all else a worker does for a small trip. Only what most trips are, jobs that succeeded
and plain claims, goes this way; others are packed from their arguments (`jobqueue.redis.workerverbs`,
the only caller). Numbers have a fixed width, so that their lengths are constants too. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

_NUMBERS = b"$16\r\n%016d\r\n" * 2 + b"$6\r\n%06d\r\n" * 2 + b"$1\r\n%d\r\n"  # trip applied keep want return_next
_ACKS = b"$1\r\nA\r\n$6\r\n%06d\r\n"


class Names(NamedTuple):
    """Keys of one queue, and the same as they go over the wire."""

    keys: tuple[str, ...]
    packed: bytes

    @classmethod
    def of(cls, *keys: str) -> Names:
        return cls(keys, _packed(keys))


class TripCommand:
    """`names`: keys of a trip without operations that need more. `queues`: those it touches, in claiming order. `constants`:
    its first arguments. See lua/settle.lua."""

    __slots__ = ("_body", "_claims", "_names", "_settles", "constants", "queues")

    def __init__(self, sha: str, names: Sequence[Names], queues: tuple[str, ...], constants: tuple[Any, ...]) -> None:
        self._names, self.queues, self.constants = names, queues, constants
        count = sum(len(some.keys) for some in names)
        self._body = _packed(("EVALSHA", sha, count)) + b"".join([some.packed for some in names]) + _packed(constants)
        self._claims, self._settles = (b"*%d\r\n" % (3 + count + len(constants) + more) for more in (5, 7))

    @property
    def keys(self) -> list[str]:
        return [key for some in self._names for key in some.keys]

    def packed(self, acks: int, trip: int, applied: int, keep: int, want: int, return_next: bool) -> bytes:
        """A trip that acks the oldest `acks` jobs and settles nothing else."""
        numbers = _NUMBERS % (trip, applied, keep, want, return_next)
        if acks:
            return b"".join((self._settles, self._body, numbers, _ACKS % acks))
        return b"".join((self._claims, self._body, numbers))


def _packed(parts: Sequence[Any]) -> bytes:
    words = [str(part).encode() for part in parts]
    return b"".join([b"$%d\r\n%s\r\n" % (len(word), word) for word in words])
