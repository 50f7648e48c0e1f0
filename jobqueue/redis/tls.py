"""TLS to Redis: options of a rediss:// url, the context made of them, and what went wrong in words that say what to do.

Not the connection (`jobqueue.redis.wire` for workers and steward, `jobqueue.redis.dial` for everybody else); both use this.
`ssl` costs 40 ms to import, which only users of TLS pay.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobqueue.errors import TlsFailed

if TYPE_CHECKING:
    import socket
    import ssl

SILENT = "the TLS handshake was not answered (a port without TLS does not answer: is it redis:// there?)"

_NO = frozenset({"false", "0", "no", "f", "n"})
_EVERY_FILE = ("ca", "cert", "key")
# Words of OpenSSL → what to do about it; the first that fits.
_CURES = (
    ("HOSTNAME_MISMATCH", "The certificate is for another name: connect by the name it was made for, or add ?ssl_check_hostname=false."),
    ("IP ADDRESS MISMATCH", "The certificate does not name this address: connect by name, or add ?ssl_check_hostname=false."),
    ("CERTIFICATE_VERIFY_FAILED", "Name the authority that signed the server's certificate with ?ssl_ca_certs=FILE."),
    ("WRONG_VERSION_NUMBER", "The server does not speak TLS on this port: write redis://, or take its TLS port."),
    ("CERTIFICATE_REQUIRED", "The server wants a client certificate: add ?ssl_certfile=FILE&ssl_keyfile=FILE."),
    ("HANDSHAKE_FAILURE", "The server wants a client certificate (?ssl_certfile=FILE&ssl_keyfile=FILE) or another version of TLS."),
    ("UNKNOWN_CA", "The server does not trust the client certificate: take one signed by the authority the server knows."),
    ("KEY_VALUES_MISMATCH", "ssl_keyfile does not belong to ssl_certfile."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tls:
    """Query options of a rediss:// url: ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_check_hostname, ssl_cert_reqs (required | none)."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    check_hostname: bool = True
    verify: bool = True

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Tls:
        """From the options of a url; the server is checked unless they say otherwise."""
        verify = options.get("ssl_cert_reqs", "required").lower() not in ("none", "cert_none")
        check = options.get("ssl_check_hostname", "true").lower() not in _NO
        return cls(
            ca=options.get("ssl_ca_certs"),
            cert=options.get("ssl_certfile"),
            key=options.get("ssl_keyfile"),
            check_hostname=check and verify,
            verify=verify,
        )

    def wrap(self, sock: socket.socket, host: str, shown: str) -> socket.socket:
        """The handshake, within the socket's own timeout. Raises TlsFailed, or OSError if the connection broke."""
        import ssl

        try:
            return self.context(shown).wrap_socket(sock, server_hostname=host)
        except TimeoutError as error:
            raise TimeoutError(SILENT) from error
        except ssl.SSLError as error:
            raise explained(error, shown) or error from error

    def context(self, shown: str) -> ssl.SSLContext:
        """Made once a process, and again when one of its files was renewed. Raises TlsFailed that names the file."""
        return _context(self, shown, tuple(self._stamps(shown)))

    def _stamps(self, shown: str) -> Iterator[int]:
        for field in _EVERY_FILE:
            if path := getattr(self, field):
                try:
                    yield os.stat(path).st_mtime_ns
                except OSError as error:
                    raise TlsFailed(
                        shown, f"{path}: {error.strerror}", "Correct the file's name in redis.url."
                    ) from error


@functools.lru_cache(maxsize=4)
def _context(tls: Tls, shown: str, _stamps: tuple[int, ...]) -> ssl.SSLContext:
    import ssl

    files = ", ".join(path for path in (tls.ca, tls.cert, tls.key) if path)
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # ssl.SSLError is one
        cure = explained(error, shown)
        raise cure or TlsFailed(
            shown, f"{files}: {error}", "PEM files are expected, which this user may read."
        ) from error
    if not tls.check_hostname:
        context.check_hostname = False
    if not tls.verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def explained(error: BaseException | None, shown: str) -> TlsFailed | None:
    """What to do about an error that TLS is to blame for; None for any other (a cut connection may be gone the next time)."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _is_ssl(error):
            text = f"{getattr(error, 'reason', None) or ''} {error}".upper()
            for word, cure in _CURES:
                if word in text or word.replace("_", " ") in text:
                    return TlsFailed(shown, _what(error), cure)
        error = error.__cause__ or error.__context__
    return None


def hinted(error: BaseException | None, text: str) -> str:
    """`text` of a connection over TLS that broke, and what that may mean: a refusal is not always heard before the reset."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ConnectionResetError | BrokenPipeError) or type(error).__name__ == "SSLEOFError":
            return f"{text} (if this goes on: does the server want a client certificate, ssl_certfile?)"
        error = error.__cause__ or error.__context__
    return text


def _is_ssl(error: BaseException) -> bool:
    return any(
        kind.__name__ == "SSLError" for kind in type(error).__mro__
    )  # by name: `ssl` may never have been imported


def _what(error: Any) -> str:
    told = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return str(told).replace("_", " ").lower()
