"""What is the in-memory port's own; its promises as a port are held in tests/queue."""

from __future__ import annotations

import time

import pytest

from jobqueue.errors import InvalidQueueName
from jobqueue.memory import MemoryQueue
from jobqueue.port import NewJob, ProducerPort, StewardPort, WorkerPort
from jobqueue.settings import QueueSettings


def test_it_is_all_three_ports() -> None:
    queue = MemoryQueue()
    ports: tuple[ProducerPort, WorkerPort, StewardPort] = (queue, queue, queue)
    assert len(ports) == 3


def test_its_clock_is_the_wall_clock_unless_another_is_given() -> None:
    assert abs(MemoryQueue().now_ms() - time.time() * 1000) < 1000
    assert MemoryQueue(clock=lambda: 7).now_ms() == 7


def test_a_queue_exists_from_its_first_use_on_and_must_have_a_name() -> None:
    queue = MemoryQueue()
    queue.enqueue([NewJob("q", "a", b"a")])
    assert list(queue.queues) == ["q"]
    with pytest.raises(InvalidQueueName):
        queue.state("{}")
    with pytest.raises(InvalidQueueName):
        queue.register(["q", ""])
    assert list(queue.queues) == ["q"]


def test_an_empty_processing_list_is_no_list() -> None:
    queue = MemoryQueue({"q": QueueSettings()})
    queue.enqueue([NewJob("q", "a", b"a")])
    queue.join("w", ["q"], 1000)
    queue.settle("w", 1, 0, "q", [], 0, ["q"], 1, False)
    assert list(queue.state("q").processing) == ["w"]
    queue.hand_back("w", "q", 1, 0)
    assert queue.state("q").processing == {}


def test_pausing_keeps_its_reason() -> None:
    queue = MemoryQueue()
    queue.pause("q", "deploy")
    assert queue.state("q").paused == "deploy"
    queue.resume("q")
    assert queue.state("q").paused is None
