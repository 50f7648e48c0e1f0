"""How a Lua verb is run: the keys of a queue, EVALSHA, a server that has to be taught. And what becomes of a job, as the operations of
settle and recover.

Not the verbs themselves: those of each caller are in producerverbs, workerverbs and stewardverbs beside this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jobqueue.errors import JobQueueError, ServerRefused
from jobqueue.outcome import Ack, Bury, Requeue, Retry
from jobqueue.port import Settlement
from jobqueue.redis import scripts
from jobqueue.redis.keys import QueueKeys
from jobqueue.settings import QueueSettings, settings_of


class Transport(Protocol):
    """A connection, or something like one: `wire.Wire`, `server.Server`."""

    def call(self, *args: Any) -> Any:
        """One command. Raises ServerRefused, Unavailable."""

    def pipe(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Several at once; error replies come back as ServerRefused in their places. Raises Unavailable."""


class Verbs:
    """`version`: the server's, e.g. (7, 0, 15)."""

    def __init__(
        self,
        transport: Transport,
        prefix: str = "jq",
        settings: Mapping[str, QueueSettings] | None = None,
        version: tuple[int, ...] = scripts.FLAGS_SINCE,
    ) -> None:
        self.transport, self.prefix, self.settings, self.version = transport, prefix, dict(settings or {}), version
        self._keys: dict[str, QueueKeys] = {}

    def keys(self, queue: str) -> QueueKeys:
        """The keys of a queue; raises InvalidQueueName."""
        keys = self._keys.get(queue)
        if keys is None:
            keys = self._keys[queue] = QueueKeys.of(self.prefix, queue, settings_of(self.settings, queue).key)
        return keys

    def _command(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        return ["EVALSHA", scripts.load(name, self.version).sha, len(keys), *keys, *args]

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run a verb; a server that does not know it yet is taught it (NOSCRIPT means: nothing was done)."""
        command = self._command(name, keys, args)
        try:
            return self.transport.call(*command)
        except ServerRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        return self.transport.call("EVAL", scripts.load(name, self.version).source, *command[2:])

    def _run_all(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run one verb several times in one round trip; error replies stand in their places."""
        commands = [self._command(name, keys, args) for keys, args in calls]
        replies = self.transport.pipe(commands)
        source = scripts.load(name, self.version).source
        for i, reply in enumerate(replies):
            if isinstance(reply, ServerRefused) and reply.code == "NOSCRIPT":
                replies[i] = self.transport.pipe([["EVAL", source, *commands[i][2:]]])[0]
        return replies

    def teach(self, names: Sequence[str]) -> None:
        """Load scripts ahead of use, so that the first trip needs no second one."""
        self.transport.pipe([["SCRIPT", "LOAD", scripts.load(name, self.version).source] for name in names])


def operation(k: QueueKeys, s: Settlement, names: list[str], *, old: bool) -> list[Any]:
    """One operation of settle, or of recover (which names the element as it lies in the list)."""

    def unique() -> int:
        if not s.unique:
            return 0
        names.append(k.unique(s.unique))
        return len(names)

    lies: list[Any] = [s.element] if old else []
    match s.disposition:
        case Ack(counter):
            return ["a", *lies, counter, unique(), s.job_id]
        case Retry(delay_ms, element):
            return ["R", *lies, delay_ms, element]
        case Bury(element):
            return ["B", *lies, element, unique(), s.job_id]
        case Requeue(element):
            return ["Q", *lies, element or b""]


def raise_first(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, JobQueueError):
            raise reply
