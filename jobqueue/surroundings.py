"""What a worker lives among, as small protocols: connections, the scoreboard's row, metrics, the process around it.

No behaviour here. `supervisor.roles.worker` fills them with the real things, tests with their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jobqueue.port import WorkerPort


class Session(Protocol):
    """One life of the connections; a new one is made after every error."""

    @property
    def port(self) -> WorkerPort: ...

    def wait(self, queues: Sequence[str], timeout: float) -> Sequence[str]:
        """Until jobs came (for these queues), the worker is told to stop, or the time is up."""

    def settled(self) -> bool:
        """After the trip that follows a wait: True if one more trip must return what is in `next`."""

    def owes(self) -> bool:
        """Finished jobs could not be settled yet, though the trips went well: the server they belong to is away."""

    def close(self) -> None: ...


class Board(Protocol):
    """Where the supervisor sees what runs (its scoreboard's row)."""

    def ready(self, flag: bool) -> None: ...
    def claimed(self, trip: int, held: int, queue: bytes) -> None: ...
    def start(
        self,
        number: int,
        started: int,
        held: int,
        start_ns: int,
        soft_ns: int,
        hard_ns: int,
        job_id: bytes,
        type_: bytes,
    ) -> None: ...
    def idle(self, done: int, busy_ns: int) -> None: ...


class Meter(Protocol):
    """Who counts."""

    def ran(
        self, queue: str, type_: str, how: Literal["processed", "retried", "failed"], seconds: Sequence[float]
    ) -> None: ...
    def waited(self, queue: str, seconds: Sequence[float]) -> None: ...
    def lost(self, queue: str, n: int) -> None: ...
    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker lives among. `connect` opens a session or raises; `pause` sleeps that many seconds or until told
    to stop; `log(event, fields)`; `title` shows what runs; `recycle_due(done)` says, after each batch and at no cost,
    whether to leave; `turn` is called between jobs, now and then and before each wait."""

    connect: Callable[[], Session]
    pause: Callable[[float], None]
    board: Board
    meter: Meter
    log: Callable[[str, Mapping[str, Any]], None]
    title: Callable[[str], None]
    recycle_due: Callable[[int], bool]
    turn: Callable[[], None] = lambda: None
