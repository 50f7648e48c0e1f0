"""How much memory a process has for itself, as its parent may ask once a second. Reads /proc, nothing else.

Not a limit: who is killed for it, the plan says. Called by the master.
"""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


def own(pid: int, beyond: float) -> int:
    """Bytes only this process has (USS) if they may be more than `beyond`, else an upper bound of them; 0 if it is gone.

    What is resident bounds them and costs one line to read. Only beyond the limit the kernel is asked to add up the pages.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            resident = int(file.read().split()[1]) * _PAGE
        if resident <= beyond:
            return resident
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return sum(
                int(line.split()[1]) * 1024 for line in file if line.startswith((b"Private_Clean:", b"Private_Dirty:"))
            )
    except (OSError, IndexError, ValueError):
        return 0
