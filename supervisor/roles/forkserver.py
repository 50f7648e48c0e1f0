"""The process `jqd: forkserver gen N`: imports the handlers, says what they are, then forks workers.

The work is in `supervisor.forkserver`; started by the master, a fresh interpreter for every generation of code.
"""

import contextlib
import os
import signal
import traceback

from supervisor import channel, forkserver, roles, spawn
from supervisor.scoreboard import LayoutMismatch


def main(run: forkserver.Run | None = None) -> int:
    """0 when told to stop or the master is gone; 78 if the handlers cannot be imported."""
    start = roles.begin("jqd: forkserver")
    spawn.die_with_parent(start.master_pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    roles.set_title(f"jqd: forkserver gen {start.generation}")
    try:
        preloaded = forkserver.preload(start, run)
        description = channel.memfd(preloaded.registry.describe(), "jqd-registry")
    except LayoutMismatch as error:
        return roles.fail(start.channel, str(error))
    except BaseException:  # noqa: BLE001 (a module that calls sys.exit is a fault of the handlers too)
        return roles.fail(start.channel, traceback.format_exc())
    with contextlib.suppress(channel.ChannelClosed):
        start.channel.send({"kind": "ready"}, [description])
        os.close(description)
        return forkserver.serve(start.channel, preloaded)
    return 0


if __name__ == "__main__":
    roles.run(main)
