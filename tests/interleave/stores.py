"""One queue as a value: a command takes what is there and gives what is there afterwards, on plain dicts or by the real Lua.

So an explorer may try what happens next as often as it likes, from any moment. Times are left out: a due time comes when `come`
lets it. Not a test. Used by `tests.interleave.world`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from jobqueue.errors import Fenced, Stale
from jobqueue.memory import MemoryQueue
from jobqueue.memorystate import QueueState
from jobqueue.port import Claim, Reconciled
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire

QUEUE = "q"
LATER = 4_000_000_000_000  # when whatever waits is due
LEASE = 10**15

Pairs = tuple[tuple[str, int], ...]
Names = tuple[str, ...]
Elements = tuple[bytes, ...]


class Kept(NamedTuple):
    """All that is kept of a queue. Lists in running order, tables sorted."""

    pending: Elements = ()
    next: Elements = ()
    processing: tuple[tuple[str, Elements], ...] = ()
    scheduled: Elements = ()
    dead: Elements = ()
    workers: Pairs = ()
    bars: Pairs = ()
    was: Pairs = ()
    leases: Names = ()
    unique: tuple[tuple[str, str], ...] = ()
    stats: Pairs = ()


class Command(NamedTuple):
    """A verb of the port and its arguments; `wake` is a parked call that fires, `come` lets due times come."""

    verb: str
    args: tuple[Any, ...] = ()


class Store(Protocol):
    def run(self, kept: Kept, command: Command) -> tuple[Any, Kept]:
        """The answer (or Fenced, Stale as a value) and what is kept then."""


def ask(port: Any, command: Command) -> Any:
    """One verb of the port; what it refuses is an answer too. Its arguments are as the port wants them."""
    try:
        return getattr(port, command.verb)(*command.args)
    except (Fenced, Stale) as refused:
        return type(refused)


class MemoryStore:
    """The plain dicts."""

    def run(self, kept: Kept, command: Command) -> tuple[Any, Kept]:
        port = MemoryQueue({}, lambda: 1)
        state = port.queues[QUEUE] = QueueState(
            pending=deque(reversed(kept.pending)),
            next=deque(reversed(kept.next)),
            processing={worker: deque(reversed(elements)) for worker, elements in kept.processing},
            scheduled=dict.fromkeys(kept.scheduled, LATER),
            dead=dict.fromkeys(kept.dead, 1),
            workers=dict(kept.workers),
            bars=dict(kept.bars),
            was=dict(kept.was),
            leases=dict.fromkeys(kept.leases, LEASE),
            unique=dict(kept.unique),
        )
        state.stats.update(dict(kept.stats))
        answer: Any = None
        if command.verb == "wake":
            if state.pending:
                state.next.appendleft(state.pending.pop())
        elif command.verb == "come":
            state.scheduled = dict.fromkeys(state.scheduled, 0)
            answer = port.promote(QUEUE)[0]
        else:
            answer = ask(port, command)
        return answer, Kept(
            pending=tuple(reversed(state.pending)),
            next=tuple(reversed(state.next)),
            processing=tuple(sorted((w, tuple(reversed(held))) for w, held in state.processing.items())),
            scheduled=tuple(sorted(state.scheduled)),
            dead=tuple(sorted(state.dead)),
            workers=tuple(sorted(state.workers.items())),
            bars=tuple(sorted(state.bars.items())),
            was=tuple(sorted(state.was.items())),
            leases=tuple(sorted(state.leases)),
            unique=tuple(sorted(state.unique.items())),
            stats=tuple(sorted((name, n) for name, n in state.stats.items() if n)),
        )


_SHOW = """
local answer = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, what = redis.call('TYPE', key).ok, nil
  if kind == 'list' then what = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'zset' then what = redis.call('ZRANGE', key, 0, -1)
  elseif kind == 'hash' then what = redis.call('HGETALL', key)
  else what = redis.call('GET', key) end
  answer[#answer + 1] = {key, what}
end
return answer
"""


class RedisStore:
    """The Lua verbs in a server. Each command travels with what is there before and a look at what is there then: one round trip."""

    def __init__(self, wire: Wire, version: tuple[int, ...]) -> None:
        self.wire = wire
        self.port = RedisQueue(self, "jq", {}, version)
        self.keys = self.port.keys(QUEUE)
        self.port.transport = wire
        self.port.teach(
            [
                "push",
                "enqueue",
                "join",
                "settle",
                "reconcile",
                "fence",
                "recover",
                "hand_back",
                "promote",
                "return_next",
                "retire",
            ]
        )
        self.port.transport = self
        self.show: str = wire.call("SCRIPT", "LOAD", _SHOW).decode()
        self._before: list[list[Any]] = []
        self._after: list[Any] = []

    def run(self, kept: Kept, command: Command) -> tuple[Any, Kept]:
        self._before, self._after = self._restore(kept), []
        answer: Any = None
        match command.verb:
            case "wake":
                self.call("LMOVE", self.keys.pending, self.keys.next, "RIGHT", "LEFT")
            case "come":
                self._before += [["ZADD", self.keys.scheduled, 0, element] for element in kept.scheduled]
                answer = self.port.promote(QUEUE)[0]
            case _:
                answer = ask(self.port, command)
        return answer, self._shown(self._after)

    def call(self, *args: Any) -> Any:
        [reply] = self.pipe([args])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipe(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies = self.wire.pipe([*self._before, *commands, ["EVALSHA", self.show, 0]])
        self._after = replies[-1]
        return replies[len(self._before) : -1]

    def _restore(self, kept: Kept) -> list[list[Any]]:
        k, commands = self.keys, [["FLUSHDB"]]
        lists = [
            (k.pending, kept.pending),
            (k.next, kept.next),
            *((k.processing(w), held) for w, held in kept.processing),
        ]
        commands += [["LPUSH", key, *elements] for key, elements in lists if elements]
        for key, score, members in (
            (k.scheduled, LATER, kept.scheduled),
            (k.dead, 1, kept.dead),
            (k.leases, LEASE, kept.leases),
        ):
            commands += [["ZADD", key, score, member] for member in members]
        for suffix, table in (("", kept.workers), (":bar", kept.bars), (":was", kept.was)):
            commands += [["HSET", k.workers, worker + suffix, n] for worker, n in table]
        commands += [["SET", k.unique(key), holder] for key, holder in kept.unique]
        commands += [["HSET", k.stats, name, n] for name, n in kept.stats]
        return commands

    def _shown(self, reply: list[Any]) -> Kept:
        found = {bytes(key).decode(): what for key, what in reply}
        k, table = self.keys, _table(found.get(self.keys.workers, []))
        unique, processing = k.unique(""), k.processing("")

        def of(suffix: str) -> Pairs:
            return tuple(sorted((name.removesuffix(suffix), n) for name, n in table.items() if name.endswith(suffix)))

        return Kept(
            pending=tuple(found.get(k.pending, [])[::-1]),
            next=tuple(found.get(k.next, [])[::-1]),
            processing=tuple(
                sorted(
                    (key.removeprefix(processing), tuple(held[::-1]))
                    for key, held in found.items()
                    if key.startswith(processing)
                )
            ),
            scheduled=tuple(sorted(found.get(k.scheduled, []))),
            dead=tuple(sorted(found.get(k.dead, []))),
            workers=tuple(sorted((name, n) for name, n in table.items() if ":" not in name)),
            bars=of(":bar"),
            was=of(":was"),
            leases=tuple(sorted(name.decode() for name in found.get(k.leases, []))),
            unique=tuple(
                sorted(
                    (key.removeprefix(unique), holder.decode())
                    for key, holder in found.items()
                    if key.startswith(unique)
                )
            ),
            stats=tuple(sorted(_table(found.get(k.stats, [])).items())),
        )


def _table(flat: list[bytes]) -> dict[str, int]:
    return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}


class BothStores:
    """The server's answer and state, and the plain dicts beside it: they must never differ."""

    def __init__(self, server: Store) -> None:
        self.server, self.memory, self.commands = server, MemoryStore(), 0

    def run(self, kept: Kept, command: Command) -> tuple[Any, Kept]:
        self.commands += 1
        answer, then = self.server.run(kept, command)
        expected, otherwise = self.memory.run(kept, command)
        assert then == otherwise, f"{command}: the server keeps\n{then}\nthe plain dicts\n{otherwise}"
        assert _timeless(answer) == _timeless(expected), f"{command}: {answer} and {expected}"
        return answer, then


def _timeless(answer: Any) -> Any:
    match answer:
        case Claim():
            return (
                answer.length,
                answer.queue,
                tuple(answer.jobs),
                answer.lost,
                answer.paused,
                answer.cancelled,
                answer.broken,
            )
        case Reconciled():
            return dict(answer.trips), {queue: tuple(held) for queue, held in answer.lists.items()}
        case _:
            return answer
