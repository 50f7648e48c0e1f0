"""Background jobs over Redis lists: enqueue them, write their handlers, test both.

Every name is fetched from its module on first use (PEP 562), so that a process pays only for what it needs.
"""

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from jobqueue.client import JobQueue
    from jobqueue.errors import (
        InvalidJob,
        InvalidQueueName,
        JobQueueError,
        QueueFull,
        ServerRefused,
        Unavailable,
        UnsafeServer,
    )
    from jobqueue.job import Job
    from jobqueue.outcome import Discard, JobAborted, JobTimeout, RetryAfter, SkipRetry
    from jobqueue.registry import InvalidHandler, PayloadMismatch, handler, on_worker_start, on_worker_stop
    from jobqueue.settings import Backoff

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Discard",
    "InvalidHandler",
    "InvalidJob",
    "InvalidQueueName",
    "Job",
    "JobAborted",
    "JobQueue",
    "JobQueueError",
    "JobTimeout",
    "PayloadMismatch",
    "QueueFull",
    "RetryAfter",
    "ServerRefused",
    "SkipRetry",
    "Unavailable",
    "UnsafeServer",
    "handler",
    "on_worker_start",
    "on_worker_stop",
]

_MODULES = {
    "client": ("JobQueue",),
    "errors": (
        "InvalidJob",
        "InvalidQueueName",
        "JobQueueError",
        "QueueFull",
        "ServerRefused",
        "Unavailable",
        "UnsafeServer",
    ),
    "job": ("Job",),
    "outcome": ("Discard", "JobAborted", "JobTimeout", "RetryAfter", "SkipRetry"),
    "registry": ("InvalidHandler", "PayloadMismatch", "handler", "on_worker_start", "on_worker_stop"),
    "settings": ("Backoff",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'jobqueue' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"jobqueue.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
