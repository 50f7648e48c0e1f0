"""Handlers and the registry that holds them: which function runs which type, and the same as data.

Not here: `@handler` itself (`jobqueue.registry`, the public face of this), importing the modules that hold handlers
(`jobqueue.loading`), turning payloads into calls (`jobqueue.arguments`), running jobs (`jobqueue.execute`). The
forkserver loads a registry for its workers; the steward, which never imports user code, gets `describe()`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from jobqueue import arguments, units
from jobqueue.arguments import Call, InvalidHandler
from jobqueue.errors import JobQueueError
from jobqueue.job import Job
from jobqueue.settings import Backoff

Hook = TypeVar("Hook", bound=Callable[[], object])


class DuplicateType(JobQueueError):
    """Two functions for one type."""

    def __init__(self, type_: str, first: str, second: str) -> None:
        self.type, self.first, self.second = type_, first, second
        super().__init__(f'type {type_!r} has two handlers: {first} and {second}. Rename one: @handler("another:type")')


class TypePolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a handler's decorator said, as data. None: what the queue says. `time_limit` in seconds."""

    type: str
    queue: str | None = None
    max_attempts: int | None = None
    time_limit: float | None = None
    backoff: Backoff | None = None


_encode = msgspec.json.Encoder().encode
_decode_policies = msgspec.json.Decoder(list[TypePolicy]).decode


class Handler:
    """One function and the type it handles. Compiled on first use or by `prepare`, when all its annotations can be
    resolved.
    """

    __slots__ = ("_json", "_parameters", "_raw", "function", "name", "policy", "type")

    def __init__(self, function: Callable[..., object], policy: TypePolicy) -> None:
        self.function, self.policy, self.type = function, policy, policy.type
        self.name = f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
        self._parameters: list[inspect.Parameter] | None = None
        self._json: Call | None = None
        self._raw: Call | None = None

    def __repr__(self) -> str:
        return f"<handler {self.type} {self.name}>"

    @property
    def max_attempts(self) -> int | None:
        return self.policy.max_attempts

    @property
    def time_limit(self) -> float | None:
        return self.policy.time_limit

    @property
    def backoff(self) -> Backoff | None:
        return self.policy.backoff

    @property
    def queue(self) -> str | None:
        return self.policy.queue

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """The function's parameters, annotations resolved. Raises InvalidHandler."""
        if self._parameters is None:
            self._parameters = arguments.signature(self.function, self.name)
        return self._parameters

    @property
    def wants_job(self) -> bool:
        """Whether the function takes the Job."""
        return any(map(arguments.is_job, self.parameters))

    def prepare(self) -> Handler:
        """Compile now. Raises InvalidHandler if the function's signature cannot take a payload."""
        self._json = arguments.compile_json(self.function, self.type, self.parameters)
        self._raw = arguments.compile_raw(self.function, self.type, self.parameters)
        return self

    def run(self, payload: bytes | msgspec.Raw, job: Job | None = None) -> object:
        """Call the function with a JSON payload. Raises PayloadMismatch before the call, and whatever the function
        raises.
        """
        if self._json is None:
            self.prepare()
        assert self._json is not None
        return self._json(payload, job)

    def run_raw(self, body: bytes, job: Job | None = None) -> object:
        """Call the function with a raw queue's bytes. Raises as `run`."""
        if self._raw is None:
            self.prepare()
        assert self._raw is not None
        return self._raw(body, job)


@dataclass(slots=True)
class Registry:
    """Handlers by type, and what workers call when they start and stop."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    worker_start: dict[str, Callable[[], object]] = field(default_factory=dict)
    worker_stop: dict[str, Callable[[], object]] = field(default_factory=dict)

    def get(self, type_: str) -> Handler | None:
        """The handler of `type_`, if there is one."""
        return self.handlers.get(type_)

    def add(self, function: Callable[..., object], policy: TypePolicy) -> Handler:
        """Register a function. The same function again (a module loaded twice) replaces it. Raises DuplicateType,
        InvalidHandler.
        """
        entry = Handler(function, policy)
        check(function, entry.name)
        known = self.handlers.get(policy.type)
        if known is not None and known.name != entry.name:
            raise DuplicateType(policy.type, known.name, entry.name)
        self.handlers[policy.type] = entry
        return entry

    def prepare(self) -> Registry:
        """Compile all handlers now. Raises InvalidHandler for the first whose signature cannot take a payload."""
        for entry in self.handlers.values():
            entry.prepare()
        return self

    def describe(self) -> bytes:
        """What the steward needs to know of it, as JSON."""
        return _encode([self.handlers[type_].policy for type_ in sorted(self.handlers)])

    @staticmethod
    def from_description(data: bytes) -> Mapping[str, TypePolicy]:
        """type → policy, from what `describe` gave. Raises msgspec.DecodeError."""
        return {policy.type: policy for policy in _decode_policies(data)}

    def on_worker_start(self, function: Hook) -> Hook:
        """Decorator: call it in each worker before its first job, to open what must not cross a fork."""
        self.worker_start[_name(function)] = function
        return function

    def on_worker_stop(self, function: Hook) -> Hook:
        """Decorator: call it in each worker after its last job."""
        self.worker_stop[_name(function)] = function
        return function


def check(function: Callable[..., object], name: str) -> None:
    """Raise InvalidHandler for functions whose call would run nothing."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidHandler(
            name,
            "it is async, and workers call handlers directly",
            "Make it a plain function (asyncio.run(...) inside it, if it needs coroutines)",
        )
    if inspect.isgeneratorfunction(function):
        raise InvalidHandler(name, "it is a generator: calling it would run nothing", "Remove its 'yield'")
    if not callable(function):
        raise InvalidHandler(name, "it is not callable", "Decorate a function")


def policy_of(
    type_: str,
    *,
    queue: str | None = None,
    max_attempts: int | None = None,
    time_limit: float | str | None = None,
    backoff: Backoff | Mapping[str, Any] | None = None,
) -> TypePolicy:
    """The arguments of `@handler`, checked. Raises InvalidHandler."""
    try:
        if not type_:
            raise ValueError("its type is empty")
        if max_attempts is not None and max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}, expected 1 or more")
        seconds = None if time_limit is None else units.duration(time_limit)
        if seconds == 0:
            raise ValueError("time_limit is 0, expected a duration such as '30s'")
        if isinstance(backoff, Mapping):
            times = {name: units.duration(backoff[name]) for name in ("base", "max") if name in backoff}
            backoff = msgspec.convert({**backoff, **times}, Backoff)
    except (ValueError, TypeError) as error:
        raise InvalidHandler(type_ or "a function", str(error), "Correct the arguments of @handler") from error
    return TypePolicy(type_, queue, max_attempts, seconds, backoff)


_current = Registry()


def current() -> Registry:
    """The registry that `@handler` fills."""
    return _current


@contextlib.contextmanager
def isolated() -> Iterator[Registry]:
    """An empty registry to be filled by `@handler` inside the block; for tests."""
    global _current
    before, _current = _current, Registry()
    try:
        yield _current
    finally:
        _current = before


def _name(function: Callable[..., object]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
