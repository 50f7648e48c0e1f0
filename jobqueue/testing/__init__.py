"""For the tests of programs that enqueue jobs and of handlers: no server, no worker, no waiting.

    queue = InMemoryQueue()
    register_user(queue)                       # enqueues welcome mails
    assert [job.type for job in queue.jobs()] == ["email:welcome"]
    assert drain(queue).failed == []           # runs everything inline, jobs enqueued meanwhile too

The pytest plugin (`jobqueue.testing.plugin`, found by pytest itself) has such a queue as the fixture `jobqueue`.
"""

from jobqueue.testing.drain import Drained, Ran, drain
from jobqueue.testing.inmemory import InMemoryQueue, Queued

__all__ = ["Drained", "InMemoryQueue", "Queued", "Ran", "drain"]
