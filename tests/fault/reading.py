"""From the world to a History: the lines that handlers wrote, and what is in Redis.

Reads Redis by its own connection, not through the proxy, and spells the keys itself. Not the judgement (`tests.fault.history`).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from tests.fault.history import Content, Run

FINALS = ("processed", "dead", "discarded", "expired", "cancelled")


def runs(path: Path) -> list[Run]:
    """Runs from lines `what name pid time attempt crashes`; a process runs one job at a time, so its next line ends its last begin."""
    if not path.exists():
        return []
    open_: dict[tuple[int, str], tuple[float, int]] = {}
    found: list[Run] = []
    for line in path.read_text().splitlines():
        what, name, pid, at, _, crashes = line.split(" ")
        key = (int(pid), name)
        if what == "begin":
            open_[key] = (float(at), len(found))
            found.append(Run(name, int(pid), float(at), 0.0, "", int(crashes)))
        else:
            began, place = open_.pop(key)
            found[place] = Run(name, int(pid), began, float(at), what, int(crashes))
    return found


def name_of(element: bytes) -> str:
    """The name in a job's payload; the element itself, shortened, if it is none of ours."""
    try:
        return str(json.loads(element)["payload"]["name"])
    except (ValueError, KeyError, TypeError):
        return repr(element[:80])


def ends(client: redis.Redis[Any], queues: tuple[str, ...]) -> dict[str, int]:
    """What the queues' counters say about jobs that are over."""
    total: Counter[str] = Counter()
    for queue in queues:
        for counter, n in client.hgetall(f"jq:{{{queue}}}:stats").items():
            if counter.decode() in FINALS:
                total[counter.decode()] += int(n)
    return dict(total)


def quiet(client: redis.Redis[Any], queues: tuple[str, ...]) -> bool:
    """Whether no job waits, runs or is on its way."""
    pipe = client.pipeline(transaction=True)
    for queue in queues:
        pipe.llen(f"jq:{{{queue}}}:pending").llen(f"jq:{{{queue}}}:next").zcard(f"jq:{{{queue}}}:scheduled")
    pipe.keys("jq:*:processing:*")
    return not any(pipe.execute())


def living(client: redis.Redis[Any]) -> set[str]:
    """Names of workers that are connected: what their connections are called."""
    names = (c.get("name", "") for c in client.client_list())
    return {name.removeprefix("jqd:") for name in names if name.startswith("jqd:") and name.count(".") > 2}


def content(
    client: redis.Redis[Any], queues: tuple[str, ...], living: set[str], before: dict[str, int], name: str = ""
) -> Content:
    """`living`: workers that may be registered. `before`: `ends` when the history began. `name`: only jobs whose name begins so count."""
    waiting: Counter[str] = Counter()
    dead: Counter[str] = Counter()
    held, stray, unique = {}, {}, {}
    for queue in queues:
        tag = f"jq:{{{queue}}}:"
        elements = [*client.lrange(f"{tag}pending", 0, -1), *client.zrange(f"{tag}scheduled", 0, -1)]
        waiting.update(name_of(e) for e in elements)
        dead.update(n for e in client.zrange(f"{tag}dead", 0, -1) if (n := name_of(e)).startswith(name))
        for key in client.keys(f"{tag}processing:*") + client.keys(f"{tag}next"):
            held[key.decode()] = client.llen(key)
        for member in client.hkeys(f"{tag}workers"):
            worker, _, note = member.decode().partition(":")
            if worker not in living or note == "was":
                stray[f"{tag}workers"] = member.decode()
        for member in client.zrange(f"{tag}leases", 0, -1):
            if member.decode() not in living:
                stray[f"{tag}leases"] = member.decode()
        for key in client.keys(f"{tag}unique:*"):
            unique[key.decode()] = (client.get(key) or b"").decode()
    after = ends(client, queues)
    finals = {counter: n - before.get(counter, 0) for counter, n in after.items() if n != before.get(counter, 0)}
    return Content(waiting, dead, held, stray, unique, finals)
