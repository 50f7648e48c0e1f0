"""A worker of a pool with `preload: false`: a fresh interpreter, for libraries that cannot be forked.

What happens in it is in `supervisor.roles.worker`; started by the master, whose direct child it is, leading its own group.
"""

import json
import os
import signal
import sys

from supervisor import channel as channels
from supervisor import forkserver, roles, spawn
from supervisor.channel import Channel
from supervisor.scoreboard import Scoreboard


def main() -> int:
    """Never returns: the worker's life ends the process."""
    spec = spawn.WorkerSpec.from_dict(json.loads(sys.argv[1]))
    roles.set_title(f"jqd: worker {spec.pool}/{spec.index} starting")
    spawn.die_with_parent(spec.master_pid, signal.SIGTERM)
    forkserver.reset_signals()
    for fd in (channels.BOARD_FD, channels.SETTINGS_FD):
        os.set_inheritable(fd, False)
    board = Scoreboard.open(channels.BOARD_FD)

    def body(channel: Channel) -> int:
        from supervisor.roles import worker
        from supervisor.settings import decode

        settings = decode(channels.read_memfd(channels.SETTINGS_FD))
        os.close(channels.SETTINGS_FD)
        return worker.run(spec, settings, forkserver.load_handlers(settings), board, channel)

    forkserver.live(spec, board, channels.inherited(channels.CHANNEL_FD), body)


if __name__ == "__main__":
    roles.run(main)
