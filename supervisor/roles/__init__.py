"""What every role does first and last: take its channel, learn who it is, leave without running anybody else's cleanup.

Not a role itself, and no role is imported here. Called by the `main` of each role, in its own process. It imports little:
the embedded server is up after a few milliseconds of Python, and everybody waits for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from supervisor import channel as channels
from supervisor.channel import BOARD_FD, CHANNEL_FD, MASTER_PID, Channel, ChannelClosed

EXIT_BUG = 70
EXIT_LATER = 75
EXIT_UNUSABLE = 78


class Start(NamedTuple):
    """What the master's first message says, and what the process was born with. `settings` is JSON. `candidate`: of a reload that
    has not proved good; a steward then waits for the word to serve."""

    channel: Channel
    board_fd: int
    master_pid: int
    generation: int
    host: str
    nonce: str
    settings: bytes
    candidate: bool = False


def begin(title: str | None) -> Start:
    """Take descriptors 3 and 4 and wait for the start message; leaves at once if the master is gone before it.

    The role that has no time for its title now (the import costs some milliseconds) sets it later.
    """
    if title is not None:
        set_title(title)
    os.set_inheritable(BOARD_FD, False)
    channel = channels.inherited(CHANNEL_FD)
    while True:
        channel.wait(timeout=60.0)
        # Nothing is sent before the role answers, except perhaps a stop: so the rest of the batch is looked at here.
        messages = channel.receive()
        if any(message["kind"] == "stop" for message, _ in messages) or (channel.closed and not messages):
            leave(0)
        for message, fds in messages:
            if message["kind"] == "start":
                settings = channels.read_memfd(fds[0])
                os.close(fds[0])
                return Start(
                    channel,
                    BOARD_FD,
                    int(os.environ[MASTER_PID]),
                    message["generation"],
                    message["host"],
                    message["nonce"],
                    settings,
                    bool(message.get("candidate", False)),
                )


def fail(channel: Channel, error: str, code: int = EXIT_UNUSABLE) -> int:
    """Tell the master why this role cannot work; returns the code to leave with (78: no use to try again, 75: later)."""
    with contextlib.suppress(ChannelClosed):
        channel.send({"kind": "failed", "error": error, "exit": code})
    return code


def set_title(title: str) -> None:
    """What `ps` shows. Never an error: a title is not worth a process."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(title)


def run(main: Callable[[], int]) -> NoReturn:
    """The ending of a role's module: main, then leave, whatever happens."""
    code = EXIT_BUG
    try:
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else EXIT_BUG if leaving.code else 0
    except BaseException:  # noqa: BLE001 (the end of a process)
        import traceback

        traceback.print_exc()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End this process now: its buffers are written, no finally and no atexit of anybody runs."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
