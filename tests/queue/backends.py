"""What the conformance suite needs of a backend beside the ports: to look inside, to let time pass, to do what others
do to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jobqueue.memory import MemoryQueue
from jobqueue.port import CronPort, ProducerPort, StewardPort, WorkerPort
from jobqueue.redis.keys import QueueKeys
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.verbs import Transport
from jobqueue.settings import QueueSettings
from tests.support.transport import ClientTransport


class Port(ProducerPort, WorkerPort, StewardPort, CronPort, Protocol):
    """The ports in one, as both implementations have them."""


class Backend(Protocol):
    """One empty store. Lists are told in the order of running: the next one, or the oldest, first."""

    port: Port
    settings: dict[str, QueueSettings]

    def again(self) -> Port:
        """The same store through another connection."""

    def push(self, queue: str, *elements: bytes) -> None:
        """As a foreign producer would: plain LPUSH, one by one."""

    def wake(self, queue: str) -> None:
        """What a parked BLMOVE does: one job from the ready list to `next`."""

    def pass_time(self, queue: str, ms: int) -> None: ...
    def pause(self, queue: str) -> None: ...
    def resume(self, queue: str) -> None: ...
    def cancel(self, queue: str, job_id: str) -> None: ...
    def pending(self, queue: str) -> list[bytes]: ...
    def next(self, queue: str) -> list[bytes]: ...
    def processing(self, queue: str, worker: str) -> list[bytes]: ...
    def scheduled(self, queue: str) -> list[bytes]: ...
    def dead(self, queue: str) -> list[bytes]: ...
    def unique(self, queue: str, key: str) -> str | None: ...
    def set_last_tick(self, queue: str, name: str, value: tuple[int, str] | None) -> None:
        """As if it had been so; None: as if it had been forgotten."""

    def stats(self, queue: str) -> dict[str, int]: ...
    def registered(self, queue: str) -> set[str]: ...
    def alarms(self, queue: str) -> int: ...
    def processing_lists(self, queue: str) -> int: ...


class MemoryBackend:
    """Plain dicts and a clock that moves when told."""

    def __init__(self, settings: Mapping[str, QueueSettings]) -> None:
        self.settings, self.now = dict(settings), 1_700_000_000_000
        self.port: MemoryQueue = MemoryQueue(self.settings, lambda: self.now)
        self.port.settings = self.settings  # tests may add to it

    def again(self) -> MemoryQueue:
        return self.port

    def push(self, queue: str, *elements: bytes) -> None:
        self.port.state(queue).pending.extendleft(elements)

    def wake(self, queue: str) -> None:
        q = self.port.state(queue)
        if q.pending:
            q.next.appendleft(q.pending.pop())

    def pass_time(self, queue: str, ms: int) -> None:
        self.now += ms

    def pause(self, queue: str) -> None:
        self.port.pause(queue, "test")

    def resume(self, queue: str) -> None:
        self.port.resume(queue)

    def cancel(self, queue: str, job_id: str) -> None:
        self.port.cancel(queue, job_id)

    def pending(self, queue: str) -> list[bytes]:
        return list(reversed(self.port.state(queue).pending))

    def next(self, queue: str) -> list[bytes]:
        return list(reversed(self.port.state(queue).next))

    def processing(self, queue: str, worker: str) -> list[bytes]:
        return list(reversed(self.port.state(queue).held(worker)))

    def scheduled(self, queue: str) -> list[bytes]:
        return _by_time(self.port.state(queue).scheduled)

    def dead(self, queue: str) -> list[bytes]:
        return _by_time(self.port.state(queue).dead)

    def unique(self, queue: str, key: str) -> str | None:
        return self.port.state(queue).unique.get(key)

    def stats(self, queue: str) -> dict[str, int]:
        return {name: n for name, n in self.port.state(queue).stats.items() if n}

    def set_last_tick(self, queue: str, name: str, value: tuple[int, str] | None) -> None:
        ticks = self.port.state(queue).ticks
        ticks.pop(name, None) if value is None else ticks.update({name: value})

    def registered(self, queue: str) -> set[str]:
        return set(self.port.state(queue).workers)

    def alarms(self, queue: str) -> int:
        alarm, self.port.state(queue).alarm = self.port.state(queue).alarm, False
        return int(alarm)

    def processing_lists(self, queue: str) -> int:
        return len(self.port.state(queue).processing)


class RedisBackend:
    """A server and its own clock. Time passes by making everything that waits older."""

    def __init__(
        self,
        new_client: Callable[[], Any],
        settings: Mapping[str, QueueSettings],
        version: tuple[int, ...],
        new_transport: Callable[[], Transport] | None = None,
    ) -> None:
        self.settings, self._version = dict(settings), version
        self._new_transport = new_transport or (lambda: ClientTransport(new_client()))
        self.client: Any = new_client()
        self.port: RedisQueue = self.again()

    def again(self) -> RedisQueue:
        port = RedisQueue(self._new_transport(), "jq", {}, self._version)
        port.settings = self.settings  # tests may add to it
        return port

    def keys(self, queue: str) -> QueueKeys:
        return self.port.keys(queue)

    def push(self, queue: str, *elements: bytes) -> None:
        for element in elements:
            self.client.lpush(self.keys(queue).pending, element)

    def wake(self, queue: str) -> None:
        self.client.lmove(self.keys(queue).pending, self.keys(queue).next, "RIGHT", "LEFT")

    def pass_time(self, queue: str, ms: int) -> None:
        keys = self.keys(queue)
        for name in (keys.scheduled, keys.dead, keys.leases):
            for member in self.client.zrange(name, 0, -1):
                self.client.zincrby(name, -ms, member)
        for name in self.client.keys(keys.id("*").replace("{", "\\{").replace("}", "\\}")):
            self.client.pexpire(name, max(1, self.client.pttl(name) - ms)) if ms < 3_600_000 else self.client.delete(
                name
            )

    def pause(self, queue: str) -> None:
        self.client.set(self.keys(queue).paused, "test")

    def resume(self, queue: str) -> None:
        self.client.delete(self.keys(queue).paused)

    def cancel(self, queue: str, job_id: str) -> None:
        self.client.sadd(self.keys(queue).cancelled, job_id)

    def _list(self, name: str) -> list[bytes]:
        return list(reversed(self.client.lrange(name, 0, -1)))

    def pending(self, queue: str) -> list[bytes]:
        return self._list(self.keys(queue).pending)

    def next(self, queue: str) -> list[bytes]:
        return self._list(self.keys(queue).next)

    def processing(self, queue: str, worker: str) -> list[bytes]:
        return self._list(self.keys(queue).processing(worker))

    def scheduled(self, queue: str) -> list[bytes]:
        return list(self.client.zrange(self.keys(queue).scheduled, 0, -1))

    def dead(self, queue: str) -> list[bytes]:
        return list(self.client.zrange(self.keys(queue).dead, 0, -1))

    def unique(self, queue: str, key: str) -> str | None:
        value = self.client.get(self.keys(queue).unique(key))
        return None if value is None else value.decode()

    def stats(self, queue: str) -> dict[str, int]:
        return {name.decode(): int(n) for name, n in self.client.hgetall(self.keys(queue).stats).items()}

    def set_last_tick(self, queue: str, name: str, value: tuple[int, str] | None) -> None:
        key = self.keys(queue).cron(name)
        self.client.delete(key) if value is None else self.client.set(key, f"{value[0]} {value[1]}")

    def registered(self, queue: str) -> set[str]:
        return {name.decode() for name in self.client.hkeys(self.keys(queue).workers) if b":" not in name}

    def alarms(self, queue: str) -> int:
        count: int = self.client.llen(self.keys(queue).alarm)
        self.client.delete(self.keys(queue).alarm)
        return count

    def processing_lists(self, queue: str) -> int:
        return len(
            [name for name in self.client.keys("*") if b":processing:" in name and f"{{{queue}}}".encode() in name]
        )


def _by_time(members: dict[bytes, int]) -> list[bytes]:
    return [member for member, _ in sorted(members.items(), key=lambda item: (item[1], item[0]))]
