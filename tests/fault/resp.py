"""Where RESP2 frames begin and end: enough of the protocol for a proxy that counts commands and replies, and no more.

Not a client and not a parser of values: a frame is handed on as the bytes it came in. Used by `tests.fault.proxy`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Splitter:
    """Bytes in, whole frames out; what is incomplete stays here until more comes."""

    rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now."""
        self.rest += data
        frames, at = [], 0
        while (end := frame_end(self.rest, at)) is not None:
            frames.append(bytes(self.rest[at:end]))
            at = end
        del self.rest[:at]
        return frames


def frame_end(data: bytes | bytearray, at: int) -> int | None:
    """Where the frame that begins at `at` ends; None while it is incomplete. Raises ValueError for bytes that are not RESP2."""
    left = 1
    while left:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        kind, left = data[at : at + 1], left - 1
        head, at = data[at + 1 : line], line + 2
        match bytes(kind):
            case b"+" | b"-" | b":":
                continue
            case b"$":
                at += max(-2, int(head)) + 2 if int(head) >= 0 else 0
                if at > len(data):
                    return None
            case b"*":
                left += max(0, int(head))
            case other:
                raise ValueError(f"not RESP2: a frame begins with {other!r}")
    return at


def words(frame: bytes) -> list[bytes]:
    """The arguments of a command (an array of bulk strings)."""
    found, at = [], frame.index(b"\r\n") + 2
    while at < len(frame):
        line = frame.index(b"\r\n", at)
        size = int(frame[at + 1 : line])
        found.append(frame[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return found


def is_nil(frame: bytes) -> bool:
    return frame in (b"$-1\r\n", b"*-1\r\n")
