"""Who is the master now? Workers and steward ask the Sentinels themselves at each connect, and believe only a server
that agrees.

Not a client of Sentinel: nothing is subscribed to, nothing is kept but which Sentinel answered last. A master that
died shows as an error of the connection, and the next connect asks again. A master that lives on after another was
promoted is demoted only seconds later, and what is written to it meanwhile is lost: so a `Watch` asks every few
seconds too. Called by `jobqueue.redis.session`; producers and tools ask through redis-py (`jobqueue.redis.dial`).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import Final

from jobqueue.errors import ServerRefused, TlsFailed, Unavailable
from jobqueue.redis.connect import Endpoint
from jobqueue.redis.wire import Wire

EVERY: Final = 1.0  # seconds, on average, between two questions of one process
PATIENCE: Final = 1.0  # seconds one Sentinel may take: another one knows as much
_answered_last: list[tuple[str, int]] = []


@dataclass(frozen=True, slots=True)
class Group:
    """A Sentinel group. `server`: how to greet its master, whose host and port are not known yet; `ask`: how to greet
    a Sentinel."""

    name: str
    hosts: tuple[tuple[str, int], ...]
    server: Endpoint
    ask: Endpoint

    @property
    def shown(self) -> str:
        return f"{self.name} ({', '.join(f'{host}:{port}' for host, port in self.hosts)})"


def connect(group: Group, name: str, timeout: float) -> Wire:
    """An open connection to the group's master. Raises Unavailable with what each Sentinel said, ServerRefused,
    TlsFailed.

    A Sentinel that was cut off may still name the old master: the server itself is asked for its role, and if it is
    not the master, the next Sentinel is asked.
    """
    causes: list[str] = []
    tried: set[tuple[str, int]] = set()
    for sentinel in _order(group.hosts):
        try:
            place = _ask(group, sentinel)
            if place is None:
                causes.append(f"Sentinel {sentinel[0]}:{sentinel[1]} does not know {group.name}")
                continue
            if place in tried:
                continue
            tried.add(place)
            wire = _master(replace(group.server, host=place[0], port=place[1]), name, timeout)
        except TlsFailed:
            raise
        except Unavailable as error:
            causes.append(str(error))
            continue
        if wire is not None:
            _answered_last[:] = [sentinel]
            return wire
        causes.append(f"{place[0]}:{place[1]} is a replica")
    raise Unavailable(group.shown, "; ".join(causes), sent=False)


class Watch:
    """Whether the server one is connected to is still the one the Sentinels name. `look` may be called at any rate."""

    def __init__(self, group: Group, endpoint: Endpoint) -> None:
        self._group, self._endpoint = group, endpoint
        self._due = self._next()

    @staticmethod
    def _next() -> float:
        return time.monotonic() + EVERY * (0.5 + random.random())

    def look(self) -> None:
        """Raises Unavailable if another server is the master now, by the word of a Sentinel and its own."""
        if time.monotonic() < self._due:
            return
        self._due = self._next()
        here = (self._endpoint.host, self._endpoint.port)
        try:
            place = _ask(self._group, random.choice(self._group.hosts))
            if place is None or place == here:
                return
            other = _master(replace(self._endpoint, host=place[0], port=place[1]), "jqd", PATIENCE)
        except (Unavailable, ServerRefused):
            return  # a Sentinel that is down says nothing about the master
        if other is not None:
            other.close()
            raise Unavailable(self._endpoint.shown, f"{place[0]}:{place[1]} is the master now", sent=False)


def _order(hosts: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    """Who answered last is asked first, the others in any order: a fleet does not ask the same one all at once."""
    last = [host for host in _answered_last if host in hosts]
    others = [host for host in hosts if host not in last]
    random.shuffle(others)
    return last + others


def _ask(group: Group, sentinel: tuple[str, int]) -> tuple[str, int] | None:
    wire = Wire(replace(group.ask, host=sentinel[0], port=sentinel[1]), "jqd", PATIENCE)
    try:
        found = wire.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", group.name)
    except ServerRefused as refused:
        raise Unavailable(wire.endpoint.shown, f"as a Sentinel it answered: {refused.message}", sent=False) from refused
    finally:
        wire.close()
    return None if found is None else (found[0].decode(), int(found[1]))


def _master(endpoint: Endpoint, name: str, timeout: float) -> Wire | None:
    """A connection to it, or None if it says that it is not the master."""
    wire = Wire(endpoint, name, timeout)
    try:
        role = wire.call("ROLE")[0]
    except ServerRefused as refused:
        if refused.code != "NOPERM":
            wire.close()
            raise
        return wire  # may not be asked: then the Sentinels have to be believed
    except BaseException:
        wire.close()
        raise
    if role == b"master":
        return wire
    wire.close()
    return None
