"""The forkserver: handlers imported once, workers forked from it in milliseconds.

Not a parent: workers are orphaned by a double fork and become children of the master, which reaps them. It runs no job,
speaks to no Redis and starts no thread. Called by `supervisor.roles.forkserver`; `live` also by
`supervisor.roles.fresh_worker`.

A thread alive at a fork leaves its locks held for ever in the child, so Python threads after the imports are an error
that names them, and a fork is refused while there are any. Signals are blocked around the forks and their handlers
reset in the worker: a signal that arrives between fork and reset would be swallowed by a handler inherited from the
imports.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from supervisor import channel as channels
from supervisor import roles, spawn
from supervisor.channel import Channel, ChannelClosed, Message
from supervisor.scoreboard import Scoreboard
from supervisor.spawn import WorkerSpec

if TYPE_CHECKING:
    from jobqueue.registry import Registry
    from supervisor.settings import Settings

log = logging.getLogger("jqd.forkserver")

ALIVE_EVERY: Final = 1.0
ADOPTION: Final = 10.0
_IGNORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # as Python itself starts

Run = Callable[[WorkerSpec, "Settings", "Registry", Scoreboard, Channel], int]


class ThreadsAlive(RuntimeError):
    """Threads that would not survive a fork."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            f"threads are running after the handlers were imported: {', '.join(names)}. A forked worker would not have them, "
            "and could hang on a lock they held: start them in @on_worker_start, or set `preload: false` for the pool"
        )


class NotAdopted(RuntimeError):
    """A new worker did not become the master's child in time."""

    def __init__(self, parent: int, master: int) -> None:
        self.parent = parent
        self.master = master
        super().__init__(f"after {ADOPTION:g} s the worker's parent is still {parent}, not the master {master}")


@dataclass(frozen=True, slots=True)
class Preloaded:
    """All that a worker is made of; the same for every worker of this generation."""

    settings: Settings
    registry: Registry
    board: Scoreboard
    run: Run
    host: str
    nonce: str
    master_pid: int
    collect: bool  # whether the handlers left the garbage collector on

    def spec(self, message: Message) -> WorkerSpec:
        return WorkerSpec.from_dict({**message, "host": self.host, "nonce": self.nonce, "master_pid": self.master_pid})


def preload(start: roles.Start, run: Run | None = None) -> Preloaded:
    """Import everything; raises whatever the handlers raise, and ThreadsAlive. `run` is what a worker does (tests)."""
    from supervisor.settings import decode, secrets

    settings = decode(start.settings)
    board = Scoreboard.open(start.board_fd)
    from supervisor import logs, metrics

    logs.configure("forkserver", settings.log, secrets=secrets(settings), generation=start.generation)

    if run is None:
        from supervisor.roles import worker

        run = worker.run
    metrics.adopt("forkserver")  # so that metrics which handlers define land in the files of the slots that use them
    registry = load_handlers(settings)
    refuse_threads()
    warn_of_native_threads()
    return Preloaded(settings, registry, board, run, start.host, start.nonce, start.master_pid, collect=gc.isenabled())


def load_handlers(settings: Settings) -> Registry:
    """Import the handler modules, after all else that a worker imports: their names cannot shadow ours then."""
    from jobqueue import registry

    return registry.load(settings.handlers)


def refuse_threads() -> None:
    """Raises ThreadsAlive if there are Python threads besides this one."""
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if names:
        raise ThreadsAlive(names)


def warn_of_native_threads() -> None:
    """Threads of C libraries (numpy, grpc): some libraries survive a fork, some do not, and we cannot know which."""
    known = {thread.native_id for thread in threading.enumerate()}
    native = [_thread_name(int(task)) for task in os.listdir("/proc/self/task") if int(task) not in known]
    if native:
        log.warning("native threads after the imports, they will be missing in workers: %s", ", ".join(sorted(native)))


def serve(channel: Channel, preloaded: Preloaded) -> int:
    """Fork workers on the master's word until it says stop or is gone."""
    gc.collect()
    gc.freeze()
    gc.disable()
    said = 0.0
    while True:
        now = time.monotonic()
        if now - said >= ALIVE_EVERY:
            said = now
            channel.send({"kind": "alive"})
        channel.flush()
        channel.wait(said + ALIVE_EVERY - now)
        messages = channel.receive()
        while messages:
            message, fds = messages.pop(0)
            match message["kind"]:
                case "spawn":
                    others = [fd for _, pending in messages for fd in pending]
                    fork_worker(preloaded, message, fds[0], [channel.fileno(), *others])
                case "stop":
                    return 0
                case kind:
                    log.warning("the master said %r, which means nothing to a forkserver", kind)
            for fd in fds:
                os.close(fd)
        if channel.closed:
            return 0


def fork_worker(preloaded: Preloaded, message: Message, channel_fd: int, strange_fds: Sequence[int]) -> None:
    """Fork one worker that is the master's child. On failure nothing is raised: the master sees EOF on the channel."""
    spec = preloaded.spec(message)
    try:
        refuse_threads()
    except ThreadsAlive as error:
        channel = channels.inherited(os.dup(channel_fd))
        _report(channel, str(error))
        channel.close()
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # or the worker writes it once more
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        middle = os.fork()
        if middle == 0:
            _middle(preloaded, spec, channel_fd, strange_fds)
        with contextlib.suppress(ChildProcessError):  # the imports had SIGCHLD ignored
            _, status = os.waitpid(middle, 0)
            if status:
                log.error("worker %s/%s was not forked, see above", spec.pool, spec.index)
    except OSError as error:
        log.error("worker %s/%s cannot be forked: %s", spec.pool, spec.index, error)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _middle(preloaded: Preloaded, spec: WorkerSpec, channel_fd: int, strange_fds: Sequence[int]) -> NoReturn:
    """The process in between: dies at once, so that its child becomes the master's."""
    code = 1
    try:
        middle = os.getpid()
        if os.fork() == 0:
            _newborn(preloaded, spec, channel_fd, strange_fds, middle)
        code = 0
    except OSError as error:
        log.error("worker %s/%s cannot be forked: %s", spec.pool, spec.index, error)
    finally:
        os._exit(code)


def _newborn(
    preloaded: Preloaded, spec: WorkerSpec, channel_fd: int, strange_fds: Sequence[int], middle: int
) -> NoReturn:
    def body(channel: Channel) -> int:
        for fd in strange_fds:
            os.close(fd)
        _await_adoption(spec.master_pid, middle)
        spawn.die_with_parent(spec.master_pid, signal.SIGTERM)
        os.setpgid(0, 0)
        # Before hooks and hello: so that the master knows whom to kill if the boot hangs.
        channel.send({"kind": "born", "pid": os.getpid(), "birth": spec.birth})
        roles.set_title(f"jqd: worker {spec.pool}/{spec.index} starting")
        reset_signals()
        reseed()
        if preloaded.collect:
            gc.enable()
        return preloaded.run(spec, preloaded.settings, preloaded.registry, preloaded.board, channel)

    live(spec, preloaded.board, channels.inherited(channel_fd), body)


def live(spec: WorkerSpec, board: Scoreboard, channel: Channel, body: Callable[[Channel], int]) -> NoReturn:
    """A worker's whole life: `body`, then leave, whatever happens. A failure before hello is told to the master."""
    code = roles.EXIT_BUG
    try:
        code = body(channel)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else roles.EXIT_BUG if leaving.code else 0
    except BaseException:  # noqa: BLE001 (the end of a process)
        if board.read(spec.slot).birth == spec.birth:
            traceback.print_exc()
        else:
            _report(channel, traceback.format_exc())
    finally:
        roles.leave(code)


def reset_signals() -> None:
    """Every disposition as in a fresh process, no wakeup descriptor, nothing blocked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reseed() -> None:
    """Random numbers of their own for every worker; numpy's global generator, if the handlers imported it, does not by
    itself.
    """
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _await_adoption(master: int, middle: int) -> None:
    """Until the process in between is gone; who the parent is then, `die_with_parent` checks."""
    deadline = time.monotonic() + ADOPTION
    while os.getppid() == middle:
        if time.monotonic() > deadline:
            raise NotAdopted(middle, master)
        time.sleep(0.0002)


def _report(channel: Channel, error: str) -> None:
    with contextlib.suppress(ChannelClosed):
        channel.send({"kind": "failed", "error": error})


def _thread_name(task: int) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return str(task)
