"""`make interleave`: the larger bounds, on plain dicts, or with `--server` on the embedded server too. Prints what was visited."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from jobqueue.redis.connect import Endpoint
from jobqueue.redis.wire import Wire
from tests.interleave.explore import Explorer
from tests.interleave.scenarios import LARGE, QUICK, Scenario
from tests.interleave.stores import BothStores, MemoryStore, RedisStore, Store
from tests.interleave.world import World, plan
from tests.support.servers import Server, debian_binary, embedded_binary


def visit(store: Store, scenario: Scenario) -> tuple[int, int]:
    explorer, start = Explorer(World(store, plan(*scenario.jobs))), time.monotonic()
    schedules = explorer.explore(scenario.workers, scenario.stewards, scenario.bounds)
    seconds = time.monotonic() - start
    print(
        f"{scenario.name:62} {explorer.states:>9,} states {explorer.steps:>10,} steps {schedules:>30,} schedules {seconds:6.1f} s",
        flush=True,
    )
    return explorer.states, explorer.steps


def main() -> int:
    binary = embedded_binary() or debian_binary()
    on_server = "--server" in sys.argv and binary is not None
    folder = Path(tempfile.mkdtemp(prefix="jq-"))
    server = Server(binary, folder) if on_server and binary is not None else None
    try:
        store: Store = MemoryStore()
        if server is not None:
            store = BothStores(RedisStore(Wire(Endpoint(path=server.socket_path), "explorer", 10.0), (7, 0, 0)))
        visited = [visit(store, scenario) for scenario in (*QUICK, *LARGE)]
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{sum(states for states, _ in visited):,} states, {sum(steps for _, steps in visited):,} steps: every promise held"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
