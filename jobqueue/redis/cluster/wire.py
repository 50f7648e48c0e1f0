"""A Cluster as one connection: each command goes to the node that serves its key, redirects are followed. A `Transport` of `RedisQueue`.

Only what was certainly not carried out is sent again: MOVED and ASK are refusals. TRYAGAIN, CLUSTERDOWN and the like come back as
ServerRefused, a lost node as Unavailable; what to do then is the caller's business. One thread of one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from jobqueue.errors import JobQueueError, ServerRefused, TlsFailed, Unavailable
from jobqueue.redis.cluster.chart import Chart
from jobqueue.redis.cluster.slots import Ask, Moved, Place, SlotMap, key_of, redirect, slot_of
from jobqueue.redis.wire import Wire, pack, wait_readable

Command = Sequence[Any]
MOST_REDIRECTS: Final = 5
MOST_SLOTS: Final = 100_000  # remembered
IDLE: Final = 0.02  # seconds after which a connection is looked at before it is used, if its owner wants that


class Line(Wire):
    """One node's connection. `begin` and `finish` are the halves of `pipe`, so that several nodes can work at the same time."""

    used = 0.0
    _owed = (0, 0)

    def begin(self, commands: Sequence[Command]) -> None:
        """Send them, behind what was deferred. Raises Unavailable."""
        assert not any(self._owed), "replies are still to be read"
        ahead, self._deferred = self._deferred, []
        self.write(b"".join([*ahead, *(pack(*command) for command in commands)]))
        self._owed = len(ahead), len(commands)

    def finish(self) -> list[Any]:
        """The replies to what was begun. Raises Unavailable."""
        (ahead, many), self._owed = self._owed, (0, 0)
        self.answers = [self.read() for _ in range(ahead)]
        return [self.read() for _ in range(many)]

    def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """See Wire."""
        self.begin(commands)
        return self.finish()

    @property
    def stale(self) -> bool:
        """Whether the server has closed it, or said something nobody asked for."""
        return time.monotonic() - self.used > IDLE and bool(wait_readable([self.fileno()], 0))


class ClusterWire:
    """`opened(line)` is called with each new connection to a node: to check it (as it is, that it has a descriptor). `careful`: look at an
    idle connection before using it, for callers who would have to tell somebody that the outcome of a command is unknown."""

    def __init__(
        self,
        chart: Chart,
        name: str,
        timeout: float,
        opened: Callable[[Line], object] = Line.fileno,
        *,
        careful: bool = False,
    ) -> None:
        self.chart, self.name, self.timeout = chart, name, timeout
        self._opened, self._careful = opened, careful
        self._lines: dict[Place, Line] = {}
        self._slots: dict[str | bytes, int] = {}
        self._written: set[Place] = set()  # nodes with writes that no WAIT has covered yet

    # ------------------------------------------------------------------ nodes

    def load(self) -> None:
        """Learn the map of slots from any node. Raises Unavailable with what each one said, ServerRefused, TlsFailed."""
        causes: list[str] = []
        for place in self.chart.candidates:
            try:
                line = self.line(place)
                reply = line.call("CLUSTER", "SLOTS")
            except TlsFailed:
                raise
            except Unavailable as error:
                causes.append(str(error))
                continue
            except ServerRefused as refused:
                if refused.code in ("LOADING", "MASTERDOWN"):
                    causes.append(str(refused))
                    continue
                raise
            found = SlotMap.read(reply, place)
            if found.places:
                self.chart.loaded(found)
                return
            causes.append(f"{place} serves no slots")
        raise Unavailable(self.shown, "; ".join(causes), sent=False)

    @property
    def shown(self) -> str:
        return f"Cluster {', '.join(str(seed) for seed in self.chart.seeds)}"

    def line(self, place: Place) -> Line:
        """The open connection to a node. Raises Unavailable with `sent` False, ServerRefused, and what `opened` raises."""
        line = self._lines.get(place)
        if line is not None and line.open and not (self._careful and line.stale):
            line.used = time.monotonic()
            return line
        if line is not None:
            line.close()
            self.chart.reopened += 1
        endpoint = self.chart.endpoint(place)
        try:
            line = Line(endpoint, self.name, self.timeout)
        except Unavailable as error:
            self.chart.failed(place, error)
            raise Unavailable(error.where, error.cause, sent=False) if type(error) is Unavailable else error from error
        try:
            self._opened(line)
        except BaseException:
            line.close()
            raise
        self.chart.answered(place)
        self._lines[place] = line
        line.used = time.monotonic()
        return line

    def dial(self, key: str) -> Wire:
        """One more connection to the node that serves `key`. Raises Unavailable, ServerRefused."""
        place = self._reached(self._slot(key))
        return Wire(self.chart.endpoint(place), self.name, self.timeout)

    def place_of(self, key: str | bytes) -> Place | None:
        """Who serves this key, by what is known."""
        return self.chart.map[self._slot(key)]

    def reach(self, key: str) -> Line:
        """The connection to the node that serves `key`. Raises Unavailable with `sent` False, ServerRefused."""
        return self.line(self._reached(self._slot(key)))

    def masters(self) -> list[Place]:
        if not self.chart.map.places:
            self.load()
        return self.chart.map.places

    def _slot(self, key: str | bytes) -> int:
        slot = self._slots.get(key)
        if slot is None:
            if len(self._slots) > MOST_SLOTS:
                self._slots.clear()
            slot = self._slots[key] = slot_of(key)
        return slot

    def _reached(self, slot: int) -> Place:
        """The node of a slot, with an open connection; when it does not answer, perhaps another one serves the slot by now."""
        place = self.chart.map[slot]
        try:
            if place is None:
                raise Unavailable(self.shown, f"no node serves slot {slot}", sent=False)
            self.line(place)
            return place
        except TlsFailed:
            raise
        except Unavailable:
            if not self.chart.stale:
                raise
            self.load()
            if (other := self.chart.map[slot]) in (None, place):
                raise
            assert other is not None
            self.line(other)
            return other

    def close(self) -> None:
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    # ------------------------------------------------------------------ commands

    def call(self, *args: Any) -> Any:
        """One command. Raises ServerRefused, Unavailable (`sent` False: certainly not carried out)."""
        [reply] = self.scatter([args])
        if isinstance(reply, JobQueueError):
            raise reply
        return reply

    def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """Several, all nodes at the same time; refusals stand in their places. Raises Unavailable if any node was lost."""
        replies = self.scatter(commands)
        for reply in replies:
            if isinstance(reply, Unavailable):
                raise reply
        return replies

    def scatter(self, commands: Sequence[Command]) -> list[Any]:
        """The same, but a node that does not answer costs only its own commands: Unavailable stands in their places."""
        replies: list[Any] = [None] * len(commands)
        groups: dict[Place, list[int]] = {}
        for i, command in enumerate(commands):
            try:
                groups.setdefault(self._goal(command), []).append(i)
            except (Unavailable, ServerRefused) as error:
                replies[i] = error
        begun: list[tuple[Place, Line, list[int]]] = []
        for place, indexes in groups.items():
            try:
                line = self.line(place)
                line.begin([commands[i] for i in indexes])
                begun.append((place, line, indexes))
            except (Unavailable, ServerRefused) as error:
                self._all(replies, indexes, error)
        for _, line, indexes in begun:
            try:
                for i, reply in zip(indexes, line.finish(), strict=True):
                    replies[i] = reply
            except Unavailable as error:
                self._all(replies, indexes, error)
        # Only now, when no node owes a reply any more: another command's must not be taken for it.
        for place, _, indexes in begun:
            for i in indexes:
                if isinstance(replies[i], ServerRefused):
                    replies[i] = self._followed(commands[i], replies[i], place)
        return replies

    @staticmethod
    def _all(replies: list[Any], indexes: Sequence[int], error: JobQueueError) -> None:
        for i in indexes:
            replies[i] = error

    def _goal(self, command: Command) -> Place:
        """The node a command has to go to, connected."""
        key = key_of(command)
        if key is None:
            return self.any()
        place = self._reached(self._slot(key))
        self._written.add(place)
        return place

    def any(self) -> Place:
        """Some node that is connected, else one that can be. Raises Unavailable."""
        for place, line in self._lines.items():
            if line.open and place in self.chart.map.places:
                return place
        self.load()
        causes = []
        for place in self.chart.map.places:
            try:
                self.line(place)
                return place
            except Unavailable as error:
                causes.append(str(error))
        raise Unavailable(self.shown, "; ".join(causes), sent=False)

    def _followed(self, command: Command, reply: Any, place: Place) -> Any:
        """The reply behind all redirects: a redirect says that nothing was done."""
        for _ in range(MOST_REDIRECTS):
            where = redirect(reply.message, place) if isinstance(reply, ServerRefused) else None
            if where is None:
                return reply
            place = where.place
            try:
                match where:
                    case Moved(slot):
                        self._learn(slot, place)
                        reply = self.line(place).pipe([command])[0]
                    case Ask():
                        reply = self.line(place).pipe([("ASKING",), command])[1]
            except (Unavailable, ServerRefused) as error:
                return error
            self._written.add(place)
        return ServerRefused(
            f"TRYAGAIN {MOST_REDIRECTS} nodes sent slot {slot_of(key_of(command) or '')} on", self.shown
        )

    def _learn(self, slot: int, place: Place) -> None:
        """A slot has moved, so probably more have. The node that was named knows; if it does not, the slot itself is what is known."""
        self.chart.map.moved(slot, place)
        if not self.chart.stale:
            return
        try:
            found = SlotMap.read(self.line(place).call("CLUSTER", "SLOTS"), place)
        except (Unavailable, ServerRefused):
            return
        if found[slot] == place:
            self.chart.loaded(found)

    # ------------------------------------------------------------------ every node

    def each(self, *command: Any) -> list[tuple[Place, Any]]:
        """One command to every master; what a node refused, or that it is lost, stands in its place. Raises Unavailable without a map."""
        answers: list[tuple[Place, Any]] = []
        for place in self.masters():
            try:
                answers.append((place, self.line(place).pipe([command])[0]))
            except (Unavailable, ServerRefused) as error:
                answers.append((place, error))
        return answers

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """MULTI, the commands (of one slot), EXEC: the replies of all, EXEC's last. A transaction that was sent on is sent whole."""
        key = key_of(commands[0])
        assert key is not None
        whole = [("MULTI",), *commands, ("EXEC",)]
        place = self._reached(self._slot(key))
        for _ in range(MOST_REDIRECTS):
            self._written.add(place)
            replies = self.line(place).pipe(whole)
            refused = next((reply for reply in replies[1:-1] if isinstance(reply, ServerRefused)), None)
            where = redirect(refused.message, place) if refused is not None else None
            if where is None:
                return replies
            if isinstance(where, Ask):
                break
            self._learn(where.slot, where.place)
            place = where.place
        return [ServerRefused("TRYAGAIN the slot is on its way to another node", self.shown)]

    def covered(self, *command: Any) -> list[Any]:
        """WAIT or WAITAOF on every node that this connection has written to since the last time: one reply a node."""
        written, self._written = self._written, set()
        return [self.line(place).call(*command) for place in sorted(written)]
