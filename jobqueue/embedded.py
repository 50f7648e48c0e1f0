"""Where an embedded server listens: the one thing a producer, a worker and the server's keeper must agree on.

Not the server itself (the supervisor keeps it) and no connection. `embedded:DIR` means the Unix socket DIR/redis.sock.
Imports next to nothing, for the sake of whoever starts the server; `jobqueue.address` is what checks addresses.
"""

import os

SOCKET_NAME = "redis.sock"
_SCHEME = "embedded:"
_SUN_PATH = 107


class NotEmbedded(ValueError):
    """An address of some other server."""

    def __init__(self) -> None:
        super().__init__(f"not an embedded server, expected {_SCHEME}FOLDER")


class SocketPathTooLong(ValueError):
    """The kernel takes 107 bytes as the path of a Unix socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"the socket path {path} has {len(os.fsencode(path))} bytes, a Unix socket takes {_SUN_PATH}: "
            "give redis.url a folder with a shorter path"
        )


def folder(url: str) -> str:
    """The data folder of `embedded:DIR`, as written. Raises NotEmbedded."""
    if not url.startswith(_SCHEME):
        raise NotEmbedded
    return os.path.normpath(url.removeprefix(_SCHEME))


def socket_path(url: str) -> str:
    """The socket of `embedded:DIR`, absolute (a handler may change the current folder), or relative if only that is short
    enough for the kernel. Raises NotEmbedded, SocketPathTooLong.
    """
    relative = os.path.join(folder(url), SOCKET_NAME)
    for path in (os.path.abspath(relative), relative):
        if len(os.fsencode(path)) <= _SUN_PATH:
            return path
    raise SocketPathTooLong(os.path.abspath(relative))
