"""What an asynchronous failover loses: acknowledged jobs that the promoted replica never heard of, by replication delay and `durability`.

The link between the two servers is cut and the master killed in the same moment; then the replica is promoted. No Sentinel takes part:
they decide when, not what is lost. `python -m benchmarks.failover`
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Literal

from jobqueue import JobQueue
from jobqueue.errors import JobQueueError
from jobqueue.settings import RedisSettings
from tests.support.link import Link
from tests.support.servers import Server, debian_binary, embedded_binary
from tests.support.waiting import eventually

SECONDS = 2.0
PRODUCERS = 4


def measure(durability: Literal["none", "replica"], delay: float, binary: str) -> tuple[int, int]:
    """(acknowledged, of these lost); with `replica` a job counts as acknowledged if its handle says that it is durable."""
    root = Path(tempfile.mkdtemp(prefix="jq-"))
    (root / "a").mkdir()
    (root / "b").mkdir()
    master = Server(binary, root / "a", "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
    link = Link(master.socket_path)
    link.delay = delay
    replica = Server(binary, root / "b", "--appendonly", "yes", "--replicaof", "127.0.0.1", str(link.port))
    acknowledged: list[str] = []
    settings = RedisSettings(url=master.url, durability=durability)

    def produce() -> None:
        with JobQueue(redis=settings) as queue:
            try:
                while True:
                    handle = queue.enqueue("note", {"name": "x"})
                    if handle.durable is not False:
                        acknowledged.append(handle.id)
            except JobQueueError:
                return

    try:
        eventually(lambda: replica.client().info("replication")["master_link_status"] == "up", 20)
        eventually(lambda: master.client().info("replication")["slave0"]["state"] == "online", 20)
        threads = [threading.Thread(target=produce) for _ in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS)
        link.cut()
        master.kill()
        for thread in threads:
            thread.join()
        replica.client().execute_command("REPLICAOF", "NO", "ONE")
        there = {json.loads(e)["id"] for e in replica.client().lrange("jq:{default}:pending", 0, -1)}
        return len(acknowledged), len(set(acknowledged) - there)
    finally:
        link.close()
        replica.close()
        master.close()
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    binary = debian_binary() or embedded_binary()
    assert binary is not None, "no server to measure"
    print("durability  delay ms  acknowledged  jobs/s   lost")
    for delay in (0.0, 0.005, 0.05):
        for durability in ("none", "replica"):
            got, lost = measure(durability, delay, binary)  # type: ignore[arg-type]
            print(f"{durability:10}  {delay * 1000:8.0f}  {got:12}  {got / SECONDS:6.0f}  {lost:5}", flush=True)


if __name__ == "__main__":
    main()
