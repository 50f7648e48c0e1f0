"""Where an embedded server listens: the one thing a producer, a worker and the server's keeper must agree on.

Not the server itself (the supervisor keeps it) and no connection. `embedded:DIR` means the Unix socket DIR/redis.sock.
"""

import os

from jobqueue import address

SOCKET_NAME = "redis.sock"
_SUN_PATH = 107


class SocketPathTooLong(ValueError):
    """The kernel takes 107 bytes as the path of a Unix socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"the socket path {path} has {len(os.fsencode(path))} bytes, a Unix socket takes {_SUN_PATH}: "
            "give redis.url a folder with a shorter path"
        )


def folder(url: str) -> str:
    """The data folder of `embedded:DIR`, as written. Raises ValueError."""
    found = address.parse(url)
    if found.scheme != "embedded":
        raise ValueError(f"{address.masked(url)} is not an embedded server")
    return found.place


def socket_path(url: str) -> str:
    """The socket of `embedded:DIR`, absolute (a handler may change the current folder) unless only the relative one is
    short enough for the kernel. Raises SocketPathTooLong."""
    relative = os.path.join(folder(url), SOCKET_NAME)
    for path in (os.path.abspath(relative), relative):
        if len(os.fsencode(path)) <= _SUN_PATH:
            return path
    raise SocketPathTooLong(os.path.abspath(relative))
