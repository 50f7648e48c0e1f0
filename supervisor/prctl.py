"""The two words to the kernel that Python has no names for: whose orphans we take, and what kills us with our parent.

Not about starting processes: that is `supervisor.spawn`, which offers both by its own name.
"""

import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """From here on orphans among our descendants become our children: so the master reaps workers it did not fork."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(master_pid: int, sig: int) -> None:
    """Have the kernel send us `sig` when our parent dies; leave at once if that parent is not, or no longer, the master.

    Call from the main thread: the kernel follows the thread that forked, and misses a parent that is already dead.
    """
    _prctl(_PR_SET_PDEATHSIG, int(sig))
    if os.getppid() != master_pid:
        os._exit(0)


def _prctl(option: int, value: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")
