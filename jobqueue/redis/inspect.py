"""How much there is in each queue, how old it is, and who works on it: read-only, two round trips however many queues.

Not here: looking at single jobs (`jobqueue.redis.browse`) or changing anything (`jobqueue.redis.operate`). Used by the exporter and by
jqctl. An Inspector remembers the queues it has seen, so that a second look needs one trip less, and since when a job without a date
has been the next one to run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from jobqueue import codec, workername
from jobqueue.errors import ServerRefused
from jobqueue.redis.keys import QueueKeys, host_key, queues_key
from jobqueue.redis.server import Command, Server
from jobqueue.redis.snapshot import HostState, QueueState, Snapshot, WorkerState
from jobqueue.settings import EVERY_QUEUE, QueueSettings, RedisSettings, settings_of
from jobqueue.workername import WorkerName


class Inspector:
    """Reads one server. One thread at a time. Everything here raises Unavailable and ServerRefused, and nothing else."""

    def __init__(
        self,
        settings: RedisSettings,
        queues: Mapping[str, QueueSettings] | None = None,
        server: Server | None = None,
    ) -> None:
        self.server = server or Server(settings)
        self.prefix, self.settings = settings.key_prefix, dict(queues or {})
        self._keys: dict[str, QueueKeys] = {}
        self._tails: dict[
            str, tuple[int, float]
        ] = {}  # queue → digest of a dateless job, monotonic time of its first sight
        for name, entry in self.settings.items():
            if name != EVERY_QUEUE:
                self._keys[name] = QueueKeys.of(self.prefix, name, entry.key)

    def keys(self, queue: str) -> QueueKeys:
        """The keys of a queue, known or not. Raises InvalidQueueName."""
        return self._keys.get(queue) or QueueKeys.of(self.prefix, queue, settings_of(self.settings, queue).key)

    def raw_type(self, queue: str) -> str | None:
        """The type that handles a raw queue's elements; None for a JSON queue."""
        settings = settings_of(self.settings, queue)
        return (settings.handler or "") if settings.codec == "raw" else None

    def queues(self) -> list[str]:
        """All queues of the config, and all that clients ever made known."""
        self._learn(self.server.call("SMEMBERS", queues_key(self.prefix)))
        return sorted(self._keys)

    def snapshot(self, only: Iterable[str] | None = None) -> Snapshot:
        """Everything counted, of all queues or of some. Two trips; three when a queue is seen for the first time."""
        wanted = list(self._keys if only is None else only)
        first = [("TIME",), ("SMEMBERS", queues_key(self.prefix)), *self._questions(wanted)]
        clock, members, *answers = self.server.pipe(first)
        for refused in (clock, members):
            # CLUSTERDOWN: the registry is on a shard that is away; the other queues are told of all the same.
            if isinstance(refused, ServerRefused) and refused.code != "CLUSTERDOWN":
                raise refused
        members = [] if isinstance(members, ServerRefused) else members
        if only is None and (new := self._learn(members)):
            answers += self.server.pipe(self._questions(new))
            wanted += new
        now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        states = {
            name: self._state(name, answers[i * _EACH : (i + 1) * _EACH], now_ms) for i, name in enumerate(wanted)
        }
        return self._with_workers(now_ms, states)

    def counts(self, queue: str) -> QueueState:
        """One queue."""
        return self.snapshot([queue]).queues[queue]

    def latency(self, queue: str) -> float | None:
        """Age of the job that runs next, seconds; None if there is none or it does not say."""
        return self.counts(queue).latency

    def workers(self) -> Sequence[WorkerState]:
        """Of all hosts."""
        return self.snapshot().workers

    def stats(self) -> dict[str, Any]:
        """What `/stats` answers: plain data, ready for JSON."""
        return self.snapshot().plain()

    def ticks(self, entries: Sequence[tuple[str, str]]) -> tuple[int, list[int | None]]:
        """(server time, last tick of each cron entry), ms; entries are (queue, name). None: no steward has seen it yet."""
        clock, *values = self.server.pipe(
            [("TIME",), *(("GET", self.keys(queue).cron(name)) for queue, name in entries)]
        )
        for refused in (clock, *values):
            if isinstance(refused, ServerRefused):
                raise refused
        last = [None if value is None else _whole(value.partition(b" ")[0]) for value in values]
        return int(clock[0]) * 1000 + int(clock[1]) // 1000, last

    def _learn(self, members: Sequence[bytes]) -> list[str]:
        """Queues of the registry that were not known: `name`, or `name=ready list` of a foreign one. The config has the last word."""
        new = []
        for member in members:
            name, foreign, key = member.decode("utf-8", "replace").partition("=")
            if name and name not in self._keys and not set("{}") & set(name + key):
                self._keys[name] = QueueKeys.of(self.prefix, name, key if foreign and key else None)
                new.append(name)
        return sorted(new)

    def _questions(self, queues: Sequence[str]) -> list[Command]:
        return [command for queue in queues for command in _questions(self.keys(queue))]

    def _state(self, queue: str, answers: Sequence[Any], now_ms: int) -> QueueState:
        broken = next((str(a) for a in answers if isinstance(a, ServerRefused)), None)
        empty: tuple[Any, ...] = (0, 0, 0, 0, [], [], None, None, None)
        pending, next_, scheduled, dead, leases, totals, paused, moving, tail = (
            default if isinstance(a, ServerRefused) else a for a, default in zip(answers, empty, strict=True)
        )
        return QueueState(
            name=queue,
            pending=pending + next_,
            scheduled=scheduled,
            dead=dead,
            latency=self._latency(queue, tail if moving is None else moving, now_ms),
            paused=None if paused is None else paused.decode("utf-8", "replace"),
            totals={name.decode("utf-8", "replace"): _whole(n) for name, n in _pairs(totals)},
            leases={worker.decode("utf-8", "replace"): _whole(end) for worker, end in _pairs(leases)},
            broken=broken,
        )

    def _latency(self, queue: str, element: bytes | None, now_ms: int) -> float | None:
        if element is None:
            self._tails.pop(queue, None)
            return None
        try:
            enqueued_at = codec.decode(element, raw_type=self.raw_type(queue)).enqueued_at
        except codec.Malformed as malformed:
            enqueued_at = malformed.envelope.enqueued_at
        if enqueued_at > 0:
            return max(0, now_ms - enqueued_at) / 1000
        digest, now = hash(element), time.monotonic()
        known, since = self._tails.get(queue, (0, 0.0))
        if known == digest and since:
            return now - since
        self._tails[queue] = digest, now
        return None

    def _with_workers(self, now_ms: int, states: dict[str, QueueState]) -> Snapshot:
        """The second trip: lengths of processing lists, and what hosts report of themselves."""
        lists = [(name, worker) for name, state in states.items() for worker in state.leases]
        names = {worker: workername.parse(worker) for _, worker in lists}
        hosts = sorted({f"{name.host}.{name.nonce}" for name in names.values() if name.host})
        answers = self.server.pipe(
            [("LLEN", self.keys(queue).processing(worker)) for queue, worker in lists]
            + [("GET", host_key(self.prefix, host)) for host in hosts]
        )
        held: dict[str, dict[str, int]] = {name: {} for name in states}
        for (queue, worker), length in zip(lists, answers, strict=False):
            held[queue][worker] = length if isinstance(length, int) else 0
        states = {name: replace(state, held=held[name]) for name, state in states.items()}
        reports = _read([a for a in answers[len(lists) :] if isinstance(a, bytes)])
        running = _reported(reports, now_ms)
        workers = [_worker(names[worker], states, now_ms, running.get(worker)) for worker in sorted(names)]
        return Snapshot(now_ms, states, workers, _hosts(reports))


_EACH = 9


def _questions(k: QueueKeys) -> list[Command]:
    return [
        ("LLEN", k.pending), ("LLEN", k.next), ("ZCARD", k.scheduled), ("ZCARD", k.dead), ("ZRANGE", k.leases, 0, -1, "WITHSCORES"),
        ("HGETALL", k.stats), ("GET", k.paused), ("LINDEX", k.next, -1), ("LINDEX", k.pending, -1),
    ]  # fmt: skip


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _whole(text: bytes) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def _read(reports: Sequence[bytes]) -> list[Mapping[str, Any]]:
    """What hosts say of themselves: `{"workers": [{"worker": id, …}, …], …}`; other shapes are not ours."""
    found: list[Mapping[str, Any]] = []
    for report in reports:
        try:
            said = msgspec.json.decode(report)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict) and isinstance(said.get("workers", []), list):
            found.append(said)
    return found


def _reported(reports: Sequence[Mapping[str, Any]], now_ms: int) -> dict[str, Mapping[str, Any]]:
    """worker id → what its host says it does. Hosts report every few seconds: a job has run for so much longer since."""
    found: dict[str, Mapping[str, Any]] = {}
    for report in reports:
        at = report.get("at_ms")
        since = max(0, now_ms - at) / 1000 if isinstance(at, int) else 0.0
        for worker in report.get("workers", []):
            if isinstance(worker, dict) and isinstance(worker.get("worker"), str):
                ran = worker.get("running_seconds")
                grown = {"running_seconds": ran + since} if isinstance(ran, int | float) else {}
                found[worker["worker"]] = {**worker, **grown}
    return found


def _hosts(reports: Sequence[Mapping[str, Any]]) -> list[HostState]:
    found = []
    for said in reports:
        pid, at = said.get("master_pid"), said.get("at_ms")
        name = f"{said.get('host', '')}.{said.get('nonce', '')}"
        if isinstance(pid, int) and isinstance(at, int):
            found.append(HostState(name, str(said.get("hostname", "")), pid, at, len(said.get("workers", []))))
    return sorted(found, key=lambda host: (host.hostname, host.id))


def _worker(
    name: WorkerName, states: Mapping[str, QueueState], now_ms: int, running: Mapping[str, Any] | None
) -> WorkerState:
    mine = [state for state in states.values() if name.id in state.leases]
    lease = max((state.leases[name.id] - now_ms) / 1000 for state in mine)
    queues = tuple(sorted(state.name for state in mine))
    return WorkerState(name, queues, sum(state.held.get(name.id, 0) for state in mine), lease, running)
