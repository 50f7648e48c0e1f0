"""Channels: whole messages of any size with their descriptors, never a blocked sender, EOF when the other end is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor import channel as channels
from supervisor.channel import Channel, ChannelClosed


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = channels.pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    ours, other = ends
    sent: list[dict[str, Any]] = [{"kind": "a", "n": n, "text": "ü\udc80"} for n in range(20)]
    for message in sent:
        ours.send(message)
    assert other.wait(5)
    assert [message for message, _ in other.receive()] == sent
    assert other.receive() == []
    assert not other.closed


def test_descriptors_travel_and_are_close_on_exec(ends: tuple[Channel, Channel]) -> None:
    ours, other = ends
    fd = channels.memfd(b"settings", "test")
    ours.send({"kind": "start"}, [fd])
    os.close(fd)
    ((message, (received,)),) = other.receive()
    assert message == {"kind": "start"}
    assert not os.get_inheritable(received)
    assert channels.read_memfd(received) == channels.read_memfd(received) == b"settings"
    with pytest.raises(PermissionError):
        os.write(received, b"x")  # sealed
    os.close(received)


@pytest.mark.parametrize("size", [0, 30_000, 70_000, 3_000_000])
def test_no_message_is_too_large(ends: tuple[Channel, Channel], size: int) -> None:
    ours, other = ends
    fd = channels.memfd(b"beside", "test")
    ours.send({"error": "x" * size}, [fd])
    os.close(fd)
    ((message, (received,)),) = other.receive()
    assert message == {"error": "x" * size}
    assert channels.read_memfd(received) == b"beside"
    os.close(received)


def test_a_slow_reader_does_not_block_the_sender_and_loses_nothing(ends: tuple[Channel, Channel]) -> None:
    ours, other = ends
    fd = channels.memfd(b"same", "test")
    for n in range(1000):
        ours.send({"n": n, "pad": "x" * 1000}, [fd] if n % 100 == 0 else [])
    os.close(fd)
    assert ours.wants_write
    seen: list[int] = []
    while len(seen) < 1000:
        for message, fds in other.receive():
            seen.append(message["n"])
            assert [channels.read_memfd(received) for received in fds] == ([b"same"] if message["n"] % 100 == 0 else [])
            for received in fds:
                os.close(received)
        ours.flush()
    assert seen == list(range(1000))
    assert not ours.wants_write


def test_a_reader_that_never_reads_is_given_up(ends: tuple[Channel, Channel]) -> None:
    ours, _ = ends
    with pytest.raises(ChannelClosed, match="not read"):
        for _ in range(100_000):
            ours.send({"pad": "x" * 1000})
    assert ours.closed


def test_eof_comes_after_the_last_words_even_if_ours_were_not_read(ends: tuple[Channel, Channel]) -> None:
    ours, other = ends
    other.send({"kind": "failed"})
    ours.send({"kind": "never read"})
    other.close()
    assert [message for message, _ in ours.receive()] == [{"kind": "failed"}]
    assert ours.closed
    with pytest.raises(ChannelClosed):
        ours.send({"kind": "stop"})


def test_sending_to_nobody_is_an_error_not_a_signal(ends: tuple[Channel, Channel]) -> None:
    ours, other = ends
    other.close()
    with pytest.raises(ChannelClosed):
        ours.send({"kind": "stop"})
    assert ours.closed


@pytest.mark.parametrize("noise", [b"hello", b"[1]", b"\xff\xfe", b'{"@":"memfd"}'])
def test_an_end_that_speaks_something_else_is_gone(noise: bytes) -> None:
    ours, theirs = channels.pair()
    with theirs:
        theirs.send(noise)
        assert ours.receive() == []
        assert ours.closed
    ours.close()


def test_both_ends_are_close_on_exec() -> None:
    ours, theirs = channels.pair()
    with theirs:
        assert not os.get_inheritable(ours.fileno())
        assert not theirs.get_inheritable()
        assert theirs.type == socket.SOCK_SEQPACKET
    ours.close()
