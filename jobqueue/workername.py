"""The parts of a worker's id, for display. Pure. Whether its process lives is decided by `supervisor.identity`, which makes these ids."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ID = re.compile(
    r"(?P<host>[^.]+)\.(?P<nonce>[^.]+)\.(?P<pool>.+)-(?P<index>\d+)\.(?P<birth>\d+)-(?P<pid>\d+)-(?P<start>\d+)"
)


@dataclass(frozen=True, slots=True)
class WorkerName:
    """`{host}.{nonce}.{pool}-{index}.{birth}-{pid}-{starttime}`; of an id of another form only `id` is known."""

    id: str
    host: str = ""
    nonce: str = ""
    pool: str = ""
    index: int = 0
    birth: int = 0
    pid: int = 0

    @property
    def slot(self) -> str:
        """As in process titles: `default/0`."""
        return f"{self.pool}/{self.index}" if self.pool else self.id


def parse(worker_id: str) -> WorkerName:
    """Never raises: ids come out of Redis, where anybody may have written them."""
    match = _ID.fullmatch(worker_id)
    if match is None or max(map(len, match.group("index", "birth", "pid"))) > 20:
        return WorkerName(worker_id)
    return WorkerName(
        worker_id,
        match["host"],
        match["nonce"],
        match["pool"],
        int(match["index"]),
        int(match["birth"]),
        int(match["pid"]),
    )
