"""`@handler`, the hooks, and all else about handlers by one name: what user code is decorated with.

A decorated function is still that function when called; it also knows how to enqueue itself, with its own arguments
checked by type checkers. The tables are in `jobqueue.handlers`, enqueueing is the default queue's (`jobqueue.default`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from jobqueue.arguments import InvalidHandler, PayloadMismatch, is_job
from jobqueue.default import Handle, default_for
from jobqueue.handlers import DuplicateType, Handler, Hook, Registry, TypePolicy, current, isolated, policy_of
from jobqueue.job import Job
from jobqueue.loading import HandlersNotLoaded, load
from jobqueue.settings import Backoff

__all__ = [
    "DuplicateType",
    "Handler",
    "HandlersNotLoaded",
    "InvalidHandler",
    "PayloadMismatch",
    "Registry",
    "Task",
    "TypePolicy",
    "current",
    "handler",
    "isolated",
    "load",
    "on_worker_start",
    "on_worker_stop",
]

P = ParamSpec("P")
C = ParamSpec("C")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Task(Generic[P, C, R_co]):
    """A registered function: call it with C as before, or `.enqueue` it with P (C without a leading Job)."""

    def __init__(self, function: Callable[C, R_co], entry: Handler) -> None:
        functools.update_wrapper(self, function)
        self.function, self.handler = function, entry

    def __call__(self, *args: C.args, **kwargs: C.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.handler)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Enqueue a call with these arguments in the default queue. Raises NoDefaultQueue, TypeError, and as
        JobQueue.enqueue.
        """
        return self.options().enqueue(*args, **kwargs)

    def options(self, **options: Any) -> Options[P]:
        """The same with options of `JobQueue.enqueue`: `welcome.options(delay=10,
        unique="welcome:42").enqueue(user_id=42)`.
        """
        return Options(self.handler, options)


class Options(Generic[P]):
    """A handler about to be enqueued with some options."""

    def __init__(self, entry: Handler, options: Mapping[str, Any]) -> None:
        self._handler, self._options = entry, options

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Enqueue a call with these arguments in the default queue."""
        entry = self._handler
        options = dict(self._options)
        if entry.queue is not None:
            options.setdefault("queue", entry.queue)
        queue = default_for(entry.type)
        handle: Handle = queue.enqueue(entry.type, _payload(entry, args, kwargs), **options)
        return handle


def _payload(entry: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, as the handler will get them; raises TypeError as the call itself would."""
    wanted = [p for p in entry.parameters if not is_job(p)]
    bound = inspect.Signature(_by_position_first(wanted)).bind(*args, **kwargs)
    payload = dict(bound.arguments)
    for parameter in wanted:
        if parameter.kind is parameter.VAR_KEYWORD:
            payload.update(payload.pop(parameter.name, {}))
    return payload


def _by_position_first(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """Sorted as a signature demands, where leaving the Job out put a default before an argument without one."""
    return sorted(parameters, key=lambda p: (p.kind, p.default is not p.empty))


class Decorator(Protocol):
    """What `handler("type", ...)` returns."""

    @overload
    def __call__(self, function: Callable[Concatenate[Job, P], R], /) -> Task[P, Concatenate[Job, P], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, P, R]: ...


@overload
def handler(function: Callable[Concatenate[Job, P], R], /) -> Task[P, Concatenate[Job, P], R]: ...
@overload
def handler(function: Callable[P, R], /) -> Task[P, P, R]: ...
@overload
def handler(
    type: str | None = None,
    /,
    *,
    max_attempts: int | None = None,
    time_limit: float | str | None = None,
    backoff: Backoff | Mapping[str, Any] | None = None,
    queue: str | None = None,
) -> Decorator: ...
def handler(type: Any = None, /, **options: Any) -> Any:  # noqa: A002
    """Register a function for a type; bare, the type is the function's name.

    `max_attempts`: runs before it is buried. `time_limit`: seconds, or text such as "30s". `backoff`: a Backoff or its
    fields as a mapping. `queue`: where `.enqueue` puts it. What is not said here is taken from the queue's settings;
    what a producer says of one job counts more. Raises InvalidHandler, DuplicateType.
    """
    if type is None or isinstance(type, str):
        return functools.partial(_register, type, options)
    return _register(None, options, type)


def _register(type_: str | None, options: dict[str, Any], function: Callable[..., Any]) -> Any:
    inner = function.function if isinstance(function, Task) else function
    policy = policy_of(type_ if type_ is not None else inner.__name__, **options)
    return Task(inner, current().add(inner, policy))


def on_worker_start(function: Hook) -> Hook:
    """Call the decorated function in each worker before its first job: open there what must not cross a fork."""
    return current().on_worker_start(function)


def on_worker_stop(function: Hook) -> Hook:
    """Call the decorated function in each worker after its last job."""
    return current().on_worker_stop(function)
