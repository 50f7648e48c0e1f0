"""The faults by name: what is done at the chosen command, to whom, and how the connection goes on.

A fault is made for a stage (who is there to be hurt) and acts in the proxy's thread. It says of itself which processes
it killed, so that the checker can explain what ran twice. Not where or when: that is a `Point` (`tests.fault.points`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tests.fault.proxy import FORWARD, Answer, Cut, Deaf, Event, HalfOpen, Hold, Proxy, Side, Verdict

ERRORS: Final = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
}
FREEZE: Final = 0.3  # seconds
STALL: Final = {"worker": 0.8, "steward": 2.3, "producer": 0.8}  # seconds: longer than the patience of each
LATE: Final = 0.15  # seconds after its sender's death that a command arrives


class Arena(Protocol):
    """What faults need of their surroundings."""

    proxy: Proxy

    def known_as(self, pid: int) -> int: ...

    def struck(self, fault: str, pid: int) -> None: ...

    def master(self) -> int: ...

    def forkserver(self) -> int | None: ...

    def restart_server(self) -> None: ...


Act = Callable[[Arena, Event], Verdict]


@dataclass(frozen=True, slots=True)
class Fault:
    """`sides`: where it makes sense. `hits`: roles at whose commands it can be tried."""

    name: str
    act: Act
    sides: tuple[Side, ...] = ("before", "after")
    hits: tuple[str, ...] = ("worker", "steward", "producer")
    kills: tuple[str, ...] = ()  # roles that it kills, besides the sender's
    kills_sender: bool = False

    def respawned(self, sender: str) -> tuple[str, ...]:
        """Roles (not workers) that have to come back after it."""
        return (*self.kills, *([sender] if self.kills_sender and sender == "steward" else []))


def strike(arena: Arena, fault: str, pid: int | None, number: int = signal.SIGKILL) -> None:
    """Signal a process and note it; nobody there is no fault."""
    if pid is None or pid == os.getpid():
        return
    known = arena.known_as(pid)  # first, while it can still be asked
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        if number == signal.SIGKILL:
            arena.struck(fault, known)  # afterwards: a run may have begun just before the kill


def _kill_self(arena: Arena, event: Event) -> Verdict:
    strike(arena, "kill-self", event.pid)
    return Cut()


def _kill_late(arena: Arena, event: Event) -> Verdict:
    strike(arena, "kill-late", event.pid)
    return Hold(LATE)


def _kill_role(role: str) -> Act:
    def act(arena: Arena, event: Event) -> Verdict:
        for pid in sorted(arena.proxy.pids(role))[:1]:
            strike(arena, f"kill-{role}", pid)
        return FORWARD

    return act


def _kill_both(arena: Arena, event: Event) -> Verdict:
    for pid in {event.pid, *arena.proxy.pids("steward")}:
        strike(arena, "kill-both", pid)
    return FORWARD


def _kill_forkserver(arena: Arena, event: Event) -> Verdict:
    strike(arena, "kill-forkserver", arena.forkserver())
    return FORWARD


def _kill_forkserver_and_self(arena: Arena, event: Event) -> Verdict:
    strike(arena, "kill-forkserver+self", arena.forkserver())
    strike(arena, "kill-forkserver+self", event.pid)
    return FORWARD


def _kill_master(arena: Arena, event: Event) -> Verdict:
    strike(arena, "kill-master", arena.master())
    return FORWARD


def _freeze(arena: Arena, event: Event) -> Verdict:
    strike(arena, "freeze-self", event.pid, signal.SIGSTOP)
    arena.proxy.later(FREEZE, lambda: strike(arena, "freeze-self", event.pid, signal.SIGCONT))
    return FORWARD


def _stall(arena: Arena, event: Event) -> Verdict:
    return Hold(STALL.get(event.role, 0.8))


def _restart_server(arena: Arena, event: Event) -> Verdict:
    arena.restart_server()
    return Cut()


def _connection(verdict: Verdict) -> Act:
    return lambda _arena, _event: verdict


def _answer(text: str) -> Act:
    return lambda _arena, _event: Answer(text)


OURS: Final = ("worker", "steward")
_LIST: Final = (
    Fault("kill-self", _kill_self, hits=OURS, kills_sender=True),
    Fault("kill-late", _kill_late, sides=("before",), hits=OURS, kills_sender=True),
    Fault("kill-worker", _kill_role("worker"), hits=("steward",)),
    Fault("kill-steward", _kill_role("steward"), hits=("worker", "producer"), kills=("steward",)),
    Fault("kill-both", _kill_both, hits=OURS, kills=("steward",)),
    Fault("kill-forkserver", _kill_forkserver, sides=("after",), hits=OURS, kills=("forkserver",)),
    Fault("kill-forkserver+self", _kill_forkserver_and_self, sides=("after",), hits=("worker",), kills=("forkserver",)),
    Fault("kill-master", _kill_master, hits=OURS),
    Fault("freeze-self", _freeze, hits=OURS),
    Fault("cut", _connection(Cut())),
    Fault("half-open", _connection(HalfOpen()), sides=("before",)),
    Fault("stall", _stall),
    Fault("swallow", _connection(Deaf())),
    Fault("restart-server", _restart_server),
    *(Fault(name, _answer(text), sides=("before",)) for name, text in ERRORS.items()),
)
FAULTS: Final = {fault.name: fault for fault in _LIST}
