"""Free TCP ports for servers that cannot be asked to choose one themselves."""

from __future__ import annotations

import os
import random
import socket

_random = random.Random(os.getpid())


def free_port() -> int:
    """A port below the range from which the kernel gives ports to clients, so that none of those takes it meanwhile."""
    while True:
        port = _random.randrange(12_000, 22_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
