"""The pytest plugin: fixtures for tests of programs that use jobqueue. Nothing of the library is imported until one is
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobqueue.handlers import Registry
    from jobqueue.testing import InMemoryQueue


@pytest.fixture
def jobqueue() -> Iterator[InMemoryQueue]:
    """An empty InMemoryQueue; while the test runs it is where `some_handler.enqueue(...)` goes."""
    from jobqueue import default
    from jobqueue.testing import InMemoryQueue

    before = default.set_default(None)
    queue = InMemoryQueue()
    default.set_default(queue)
    yield queue
    default.set_default(before)


@pytest.fixture
def job_registry() -> Iterator[Registry]:
    """An empty registry that `@handler` fills while the test runs: for handlers defined inside a test."""
    from jobqueue.handlers import isolated

    with isolated() as registry:
        yield registry
