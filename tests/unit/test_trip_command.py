"""A packed trip is byte for byte a command a server understands, whatever its numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.redis.trip import Names, TripCommand
from tests.fault.resp import Splitter, words

numbers = st.integers(0, 999_999)
trips = st.integers(1, 10**15)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), numbers, trips, trips, numbers, numbers, st.booleans())
def test_it_says_what_it_was_made_of(
    keys: list[str], acks: int, trip: int, applied: int, keep: int, want: int, back: bool
) -> None:
    command = TripCommand("5ha", [Names.of(*keys[:2]), Names.of(*keys[2:])], ("q",), ("w", 1, 1))
    assert command.keys == keys
    [frame] = Splitter().feed(command.packed(acks, trip, applied, keep, want, back))
    parts = words(frame)
    head = ["EVALSHA", "5ha", str(len(keys)), *keys, "w", "1", "1"]
    assert [part.decode() for part in parts[: len(head)]] == head
    rest = parts[len(head) :]
    assert [int(part) for part in rest[:5]] == [trip, applied, keep, want, int(back)]
    assert rest[5:] == ([b"A", b"%06d" % acks] if acks else [])
