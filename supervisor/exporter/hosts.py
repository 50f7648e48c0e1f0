"""Which Host headers the exporter answers to. Pure.

Not authentication: it keeps a web page that has rebound its own name to our address (DNS rebinding) from reading
what a browser on this machine can reach. Used by `supervisor.exporter.app`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names answered to. `any_address`: also every IP literal (no page can make its name one)."""

    names: frozenset[str]
    any_address: bool

    @classmethod
    def of(cls, listen_host: str, configured: tuple[str, ...], hostname: str) -> Hosts:
        """On every interface the addresses are not known beforehand, so IP literals and the machine's name count too."""
        everywhere = _is_unspecified(listen_host)
        names = {*_LOCAL, listen_host.lower(), *(_host(name) or name.lower() for name in configured)}
        return cls(frozenset(names | {hostname.lower()} if everywhere else names), everywhere)

    def allows(self, header: str | None) -> bool:
        """Whether a request with this Host header (None: HTTP/1.0 without one) is answered."""
        host = _host(header or "")
        if host is None:
            return False
        return host in self.names or (self.any_address and _is_address(host))


def _host(header: str) -> str | None:
    """The host in `host`, `host:port`, `[v6]:port`, lowered; None if it is none of these."""
    if header.startswith("["):
        host, bracket, port = header[1:].partition("]")
        if not bracket or (port and not _is_port(port[1:], port[0])) or not _is_address(host):
            return None
    else:
        host, colon, port = header.partition(":")
        if colon and not _is_port(port, colon):
            return None
    return host.lower().removesuffix(".") or None


def _is_port(text: str, colon: str) -> bool:
    return colon == ":" and text.isascii() and text.isdigit() and len(text) <= 5


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_unspecified(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified
