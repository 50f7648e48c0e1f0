"""Which slot a key is in, which node serves a slot, and what a redirect says. Pure.

Nothing here connects (`jobqueue.redis.cluster.chart` and `.wire` do, the only callers).
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

SLOTS: Final = 16_384
WITH_KEY_COUNT: Final = frozenset({"EVAL", "EVALSHA"})
KEYLESS: Final = frozenset(
    {"CLIENT", "CLUSTER", "CONFIG", "DBSIZE", "ECHO", "INFO", "KEYS", "PING", "ROLE", "SCRIPT", "TIME", "WAIT", "WAITAOF"}
)  # fmt: skip


class Place(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Moved:
    """The slot is served there for good."""

    slot: int
    place: Place


@dataclass(frozen=True, slots=True)
class Ask:
    """This one command is to be asked there, after ASKING: the slot is on its way."""

    place: Place


def slot_of(key: str | bytes) -> int:
    """The slot of a key: CRC16 of its hash tag, or of all of it if it has none."""
    data = key.encode() if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return binascii.crc_hqx(data, 0) % SLOTS


def key_of(command: Sequence[Any]) -> str | bytes | None:
    """The key that decides where a command goes (all its keys share a slot); None if it has none."""
    name = str(command[0]).upper()
    if name in KEYLESS:
        return None
    if name in WITH_KEY_COUNT:
        return command[3] if int(command[2]) else None
    return command[1]  # type: ignore[no-any-return]


def redirect(message: str, asked: Place) -> Moved | Ask | None:
    """What an error reply of the node `asked` says of where to go; None if it is no redirect. An empty host is that node's own."""
    words = message.split()
    if len(words) < 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    place = Place(host.strip("[]") or asked.host, int(port))
    return Ask(place) if words[0] == "ASK" else Moved(int(words[1]), place)


class SlotMap:
    """slot → the master that serves it. Changed in one place only: `moved`."""

    def __init__(self, served: Mapping[Place, Sequence[tuple[int, int]]] | None = None) -> None:
        self._places: list[Place | None] = [None] * SLOTS
        for place, ranges in (served or {}).items():
            for first, last in ranges:
                self._places[first : last + 1] = [place] * (last - first + 1)

    def __getitem__(self, slot: int) -> Place | None:
        return self._places[slot]

    def moved(self, slot: int, place: Place) -> None:
        self._places[slot] = place

    @property
    def places(self) -> list[Place]:
        """All masters, in the order of their slots."""
        return list(dict.fromkeys(place for place in self._places if place is not None))

    @classmethod
    def read(cls, reply: Sequence[Any], asked: Place) -> SlotMap:
        """From what `asked` answered to CLUSTER SLOTS: [first, last, master, replica…] each; a node is [host, port, …]."""
        served: dict[Place, list[tuple[int, int]]] = {}
        for first, last, place in _ranges(reply, asked):
            served.setdefault(place, []).append((first, last))
        return cls(served)


def _ranges(reply: Sequence[Any], asked: Place) -> Iterator[tuple[int, int, Place]]:
    for first, last, master, *_ in reply:
        host = (master[0] or b"").decode("utf-8", "replace")
        # No host, or "?": the node does not know how it is reached. Whoever answered is reached as it was.
        yield int(first), int(last), Place(asked.host if host in ("", "?") else host, int(master[1]))
