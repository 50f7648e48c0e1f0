"""`jobqueue.testing`: a queue without a server, drained without a worker, by the same rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobqueue import Discard, Job, JobQueue, QueueFull, RetryAfter, SkipRetry, handler
from jobqueue.errors import InvalidJob
from jobqueue.handlers import Registry
from jobqueue.outcome import Dropped, Failed, Succeeded
from jobqueue.settings import QueueSettings
from jobqueue.testing import InMemoryQueue, drain
from jobqueue.testing.plugin import job_registry, jobqueue  # noqa: F401 - fixtures, as the plugin gives them

pytestmark = pytest.mark.usefixtures("job_registry")
ran: list[object] = []


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    ran.clear()
    yield


@pytest.fixture
def queue(jobqueue: InMemoryQueue) -> InMemoryQueue:  # noqa: F811
    return jobqueue


def test_it_is_a_job_queue(queue: InMemoryQueue) -> None:
    assert isinstance(queue, JobQueue)
    job = queue.enqueue("t", {"n": 1}, headers={"a": "b"})
    (found,) = queue.jobs()
    assert (found.id, found.type, found.payload, found.envelope.headers) == (job.id, "t", {"n": 1}, {"a": "b"})
    assert not job.duplicate


def test_many_at_once(queue: InMemoryQueue) -> None:
    done = queue.enqueue_many([("t", {"n": n}) for n in range(3)] + [("t", {}, {"queue": "other", "delay": 5})])
    assert len(done) == 4
    assert [job.payload for job in queue.jobs("default")] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len(queue.jobs("other", "scheduled")) == 1


def test_the_promises_to_producers_hold(queue: InMemoryQueue) -> None:
    first = queue.enqueue("t", unique="key")
    second = queue.enqueue("t", unique="key")
    assert (second.id, second.duplicate) == (first.id, True)
    assert queue.enqueue("t", id="mine").duplicate is False
    assert queue.enqueue("t", id="mine").duplicate is True
    with pytest.raises(InvalidJob):
        queue.enqueue("")


def test_a_full_queue_says_so() -> None:
    queue = InMemoryQueue(queues={"default": QueueSettings(max_length=2)})
    queue.enqueue("t")
    queue.enqueue("t")
    with pytest.raises(QueueFull):
        queue.enqueue("t")


def test_a_drain_runs_everything_and_what_that_enqueues(queue: InMemoryQueue) -> None:
    @handler("count")
    def count(n: int) -> None:
        ran.append(n)
        if n:
            count.enqueue(n - 1)

    count.enqueue(2)
    drained = drain(queue)
    assert (ran, drained.types(), drained.failed) == ([2, 1, 0], ["count"] * 3, [])
    assert (queue.jobs(), len(drain(queue))) == ([], 0)


def test_a_handlers_own_queue_is_used(queue: InMemoryQueue) -> None:
    @handler("mail", queue="mails")
    def mail() -> None: ...

    mail.enqueue()
    queue.enqueue("mail")
    assert [job.queue for job in queue.jobs()] == ["mails", "mails"]
    assert len(drain(queue)) == 2


def test_failures_are_told_and_retried_in_time(queue: InMemoryQueue) -> None:
    @handler("fails", max_attempts=3)
    def fails(job: Job) -> None:
        ran.append((job.attempt, job.max_attempts))
        raise ValueError("no")

    queue.enqueue("fails", unique="key")
    drained = drain(queue, rnd=lambda: 0.9)
    assert [run.fault.message for run in drained.failed if run.fault] == ["no"]
    assert len(queue.jobs(state="scheduled")) == 1
    assert queue.enqueue("fails", unique="key").duplicate, "a job that will run again keeps its key"
    queue.travel(3600)
    drain(queue)
    drain(queue, scheduled=True)
    assert ran == [(1, 3), (2, 3), (3, 3)]
    (dead,) = queue.jobs(state="dead")
    assert dead.envelope.error is not None
    assert (dead.envelope.error.kind, dead.envelope.error.message) == ("ValueError", "no")
    assert "ValueError: no" in dead.envelope.error.traceback
    assert not queue.enqueue("fails", unique="key").duplicate


def test_handlers_steer_their_jobs(queue: InMemoryQueue) -> None:
    @handler
    def skips() -> None:
        raise SkipRetry("never")

    @handler
    def discards() -> None:
        raise Discard

    @handler
    def waits(job: Job) -> None:
        if job.attempt == 1:
            raise RetryAfter(30)

    for name in ("skips", "discards", "waits"):
        queue.enqueue(name)
    outcomes = {run.type: run.outcome for run in drain(queue).ran}
    assert outcomes["discards"] == Dropped("discarded")
    assert [job.type for job in queue.jobs(state="dead")] == ["skips"]
    queue.travel(29)
    assert len(drain(queue)) == 0
    queue.travel(2)
    assert [run.outcome for run in drain(queue).ran] == [Succeeded()]


def test_what_fits_no_handler_is_buried_or_put_off(queue: InMemoryQueue) -> None:
    @handler
    def typed(n: int) -> None: ...

    queue.enqueue("typed", {"n": "x"})
    queue.enqueue("unknown")
    assert len(drain(queue).failed) == 2
    assert [job.type for job in queue.jobs(state="dead")] == ["typed"]
    assert [job.type for job in queue.jobs(state="scheduled")] == ["unknown"]


def test_expired_and_cancelled_jobs_do_not_run(queue: InMemoryQueue) -> None:
    @handler
    def never() -> None:
        ran.append(1)

    queue.enqueue("never", expires=10)
    job = queue.enqueue("never")
    queue.port.cancel("default", job.id)
    queue.travel(11)
    assert {run.outcome for run in drain(queue).ran} == {Dropped("expired"), Dropped("cancelled")}
    assert ran == []
    assert queue.port.state("default").stats == {"enqueued": 2, "expired": 1, "cancelled": 1}


def test_a_raw_queue_gives_its_handler_bytes() -> None:
    queue = InMemoryQueue(queues={"jobs": {"codec": "raw", "handler": "notify", "key": "jobs", "max_attempts": 2}})

    @handler("notify")
    def notify(message: bytes) -> None:
        ran.append(message)
        raise ValueError

    queue.enqueue("notify", "user,text")
    queue.port.state("jobs").pending.append(b"\xff")
    drain(queue, scheduled=True)
    assert sorted(ran, key=repr) == [b"\xff"] * 2 + [b"user,text"] * 2  # type: ignore[comparison-overlap]
    assert sorted(job.payload for job in queue.jobs(state="dead")) == [b"user,text", b"\xff"]


def test_bytes_that_are_no_job_are_buried_with_the_reason(queue: InMemoryQueue) -> None:
    queue.port.state("default").pending.append(b"\xff not a job")
    drain(queue)
    (dead,) = queue.jobs(state="dead")
    assert dead.payload == b"\xff not a job"
    assert dead.envelope.error is not None and dead.envelope.error.kind == "Malformed"


def test_a_job_that_enqueues_itself_for_ever_is_noticed(queue: InMemoryQueue) -> None:
    @handler
    def again() -> None:
        again.enqueue()

    again.enqueue()
    with pytest.raises(RuntimeError, match="50 jobs ran"):
        drain(queue, limit=50)


def test_a_registry_may_be_given(queue: InMemoryQueue, job_registry: Registry) -> None:  # noqa: F811
    @handler
    def here() -> None: ...

    queue.enqueue("here")
    assert [type(run.outcome) for run in drain(queue, registry=job_registry).ran] == [Succeeded]
    queue.enqueue("here")
    assert [run.fault for run in drain(queue, registry=Registry()).ran] == [None]
    assert not any(isinstance(run.outcome, Failed) for run in drain(queue).ran)


def test_the_fixture_leaves_no_default_behind(queue: InMemoryQueue) -> None:
    from jobqueue import default

    assert default.default_for("t") is queue
    queue.enqueue("t")
    queue.clear()
    assert queue.jobs() == []
