"""`jqctl`: what an operator does to queues from a shell. No process is started and none is signalled; it talks to Redis alone.

Exit codes: 0 done; 1 not found, refused, or timed out; 2 usage or an unusable config file; 69 Redis not reachable, or it refused; 70 a bug;
130 interrupted.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> int:
    """The console script. Imports late: `jqctl --help` needs no Redis client."""
    from supervisor.ctl.entry import run

    return run()
