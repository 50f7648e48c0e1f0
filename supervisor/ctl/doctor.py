"""`jqctl doctor`: is this Redis fit for jobs, is everybody well, and if not, what to do. Reads only."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import click

from jobqueue.errors import Unavailable
from supervisor.ctl.output import ago, as_json_list, safe, say
from supervisor.ctl.target import Target, pass_target, targeted

AWAY = (
    "Is it running, and is this its address? Try redis-cli with the same URL; choose another with --addr, -c FILE or "
    "REDIS_URL. The server of embedded: addresses runs only while its jqd does."
)
UNREACHABLE = 69
LATE = 60.0
SILENT = 12.0
"""Seconds after which a host's report is old; it comes every 3 s."""
LOOK = 200
"""Dead letters of a queue that are looked at."""
MARKS = {"ok": "✓", "warning": "!", "fault": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`cure` is empty if there is nothing to do."""

    level: Literal["ok", "warning", "fault"]
    what: str
    cure: str = ""


@click.command()
@targeted
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def doctor(target: Target, json_: bool) -> None:
    """Check Redis (version, persistence, eviction, round trip, clock, memory) and the queues. Exit code 1 if something is wrong."""
    server = target.inspector.server
    try:
        found = target.inspector.snapshot()
        nodes = server.each("INFO")
        findings = [
            *(finding for where, said in nodes for finding in _node(where, said, target, alone=len(nodes) == 1)),
            *(_coverage(server) if len(nodes) > 1 else ()),
            *_trips(server),
            *_queues(found),
            *_letters(target.browser, found),
            *_hosts(found),
        ]
    except Unavailable as error:
        if json_:
            _tell([Finding("fault", str(error), AWAY)], json_)
        else:
            say(f"jqctl: {safe(error)} {AWAY}")
        sys.exit(UNREACHABLE)
    _tell(findings, json_)
    if any(finding.level == "fault" for finding in findings):
        sys.exit(1)
    if not json_ and all(finding.level == "ok" for finding in findings):
        say("all is well")


def _tell(findings: list[Finding], json_: bool) -> None:
    if json_:
        as_json_list(asdict(finding) for finding in findings)
        return
    for finding in findings:
        click.echo(f"{MARKS[finding.level]} {safe(finding.what)}" + (f"\n    {finding.cure}" if finding.cure else ""))


def _node(where: str, said: Any, target: Target, *, alone: bool) -> Iterator[Finding]:
    """One server; of several (the masters of a Cluster) each is named."""
    from jobqueue.redis.connect import parse_info

    if isinstance(said, Exception):
        if alone:
            raise said
        yield Finding("fault", f"node {where}: {said}", "Its queues stand still, the others go on. Is it running?")
        return
    info = parse_info(said)
    for finding in (*_server(info, target.settings[0].allow_eviction), *_memory(info)):
        yield finding if alone else replace(finding, what=f"node {where}: {finding.what}")


def _coverage(server: Any) -> Iterator[Finding]:
    """Whether a shard without a master stops the others."""
    for where, said in server.each("CONFIG", "GET", "cluster-require-full-coverage"):
        if isinstance(said, list) and said[1:] == [b"yes"]:
            yield Finding(
                "warning",
                f"node {where} stops serving all queues when one shard has no master",
                "CONFIG SET cluster-require-full-coverage no, and in redis.conf",
            )


def _server(info: dict[str, str], allow_eviction: bool) -> Iterator[Finding]:
    from jobqueue.redis.scripts import parse_version

    version = info.get("redis_version", "0")
    name = f"Valkey {info['valkey_version']} (as Redis {version})" if "valkey_version" in info else f"Redis {version}"
    if parse_version(version) < (6, 2):
        yield Finding("fault", f"{name} is too old", "Use Redis 6.2 or newer, or Valkey.")
    else:
        yield Finding("ok", name)
    if info.get("role") != "master":
        yield Finding(
            "fault", f"this server is a {info.get('role')}", "Point redis.url to the master, or use redis+sentinel://."
        )
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        yield Finding("ok", "maxmemory-policy noeviction: no job is evicted")
    else:
        level: Literal["warning", "fault"] = "warning" if allow_eviction else "fault"
        yield Finding(
            level, f"maxmemory-policy {policy} removes jobs silently", "CONFIG SET maxmemory-policy noeviction"
        )
    if info.get("aof_enabled") == "1":
        bad = info.get("aof_last_write_status", "ok") != "ok"
        yield (
            Finding("fault", "the append-only file cannot be written", "Look at Redis's log and its disk.")
            if bad
            else Finding("ok", "the append-only file is on: a crash of Redis loses a second at most")
        )
    else:
        yield Finding(
            "warning",
            "appendonly is off: a crash of Redis loses accepted jobs",
            "CONFIG SET appendonly yes, and in redis.conf",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Finding("fault", "the last snapshot failed", "Look at Redis's log and its disk.")


def _memory(info: dict[str, str]) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        yield Finding(
            "warning",
            f"no maxmemory is set ({used / 1e6:.0f} MB used)",
            "Set maxmemory below what the machine has, and max_length.",
        )
    elif used > 0.8 * most:
        yield Finding(
            "fault",
            f"memory is {used / most:.0%} full",
            "Let workers drain the queues, raise maxmemory, or set max_length.",
        )
    else:
        yield Finding("ok", f"memory is {used / most:.0%} full")


def _trips(server: Any) -> Iterator[Finding]:
    times, offsets = [], []
    for _ in range(20):
        began = time.monotonic()
        seconds, micros = server.call("TIME")
        times.append(time.monotonic() - began)
        offsets.append(int(seconds) + int(micros) / 1e6 - time.time())
    median = sorted(times)[len(times) // 2]
    level: Literal["ok", "warning"] = "warning" if median > 0.005 else "ok"
    yield Finding(
        level,
        f"a round trip takes {median * 1000:.2f} ms",
        "" if level == "ok" else "Workers should be nearer to Redis.",
    )
    offset = sorted(offsets)[len(offsets) // 2]
    if abs(offset) > 2:
        yield Finding(
            "warning",
            f"this host's clock is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} the server's",
            "Run NTP on both.",
        )
    else:
        yield Finding("ok", "the clocks agree")


def _queues(found: Any) -> Iterator[Finding]:
    for name, q in sorted(found.queues.items()):
        if q.broken:
            yield Finding(
                "fault",
                f"queue {name}: {q.broken}",
                "Its shard of the Cluster does not answer."
                if "CLUSTERDOWN" in q.broken
                else "Something else uses this key: change key_prefix or the queue's key.",
            )
        if q.paused is not None:
            yield Finding("warning", f"queue {name} is paused {q.paused}".rstrip(), f"jqctl resume {name}")
        if q.pending and not q.leases and q.paused is None:
            yield Finding(
                "warning",
                f"queue {name}: {q.pending} jobs wait and no worker serves it",
                "Add it to a pool, or start jqd.",
            )
        busy = [worker for worker in found.workers if worker.running and name in worker.queues]
        if q.latency is not None and q.latency > LATE and q.leases and len(busy) >= len(q.leases) and q.paused is None:
            yield Finding(
                "warning",
                f"queue {name}: the next job has waited {ago(q.latency)}, and all {len(q.leases)} workers are busy",
                "See what they run with jqctl top; give the pool more processes, or slow jobs a pool of their own.",
            )
    ended = [worker for worker in found.workers if worker.lease_seconds < 0]
    if ended:
        yield Finding(
            "warning", f"{len(ended)} workers whose lease has ended are not recovered yet", "Is any steward running?"
        )
    yield Finding("ok", f"{len(found.workers)} workers on {len({w.name.host for w in found.workers})} hosts")


def _letters(browser: Any, found: Any) -> Iterator[Finding]:
    """What most of a queue's latest dead letters died of."""
    for name, q in sorted(found.queues.items()):
        if not q.dead or q.broken:
            continue
        letters = browser.ls(name, "dead", 0, LOOK, newest=True)
        kinds = Counter((e.envelope.error.kind if e.envelope.error else "no error", e.envelope.type) for e in letters)
        (kind, type_), most = kinds.most_common(1)[0] if kinds else (("no error", ""), 0)
        words = f"{q.dead} dead letter{'s' if q.dead > 1 else ''}"
        mostly = f"{kind} of {type_}" if most == len(letters) else f"mostly {kind} of {type_}"
        shown, where = safe(name), safe(f"type={type_} kind={kind}")
        yield Finding(
            "warning",
            f"queue {name}: {words}, {mostly}",
            f"Look: jqctl dead ls --queue {shown}. When the cause is gone: jqctl dead retry --queue {shown} --where '{where}' --rate 10/s",
        )


def _hosts(found: Any) -> Iterator[Finding]:
    for host in found.hosts:
        silent = (found.now_ms - host.at_ms) / 1000
        if silent > SILENT:
            yield Finding(
                "warning",
                f"host {host.hostname or host.id} has not reported for {ago(silent)}",
                "Is its jqd running (systemctl status jqd), and can it reach Redis? Its jobs are taken over when its leases end.",
            )
