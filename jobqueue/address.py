"""Addresses of Redis as written by people: what `redis.url` and `--addr` may say, taken apart without connecting.

Pure. `jobqueue.yamlfile` checks with it, `supervisor.settings` masks and compares with it. Opening connections is the
business of `jobqueue.redis`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "embedded",
)
EXPECTED = (
    "expected redis://HOST:PORT/DB, rediss://…, unix:///PATH, redis+sentinel://H1,H2/MASTER, "
    "redis+cluster://H1,H2 or embedded:FOLDER"
)
_DEFAULT_PORTS = {"redis+sentinel": 26379, "rediss+sentinel": 26379}
# An '@' inside a password is not escaped by everybody: hide up to the last one before the path or a space.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s:/?#@]*):[^\s]*@")
_LONE_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s:/?#@]+@")
_QUERY_SECRET = re.compile(r"(?P<name>[?&](?:[a-z_]*password|token)=)[^&\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """A taken-apart address. `place` is a path, a folder or a Sentinel group; `hosts` is empty for unix and embedded."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    place: str
    db: int


def masked(text: str) -> str:
    """`text` with the password of every URL in it replaced by `***`; a lone user name is hidden too, it may be a token."""
    text = _USERINFO.sub(r"\g<scheme>\g<user>:***@", text)
    text = _LONE_USER.sub(lambda m: m["scheme"] + "***@" if ":" not in m[0][len(m["scheme"]) :] else m[0], text)
    return _QUERY_SECRET.sub(r"\g<name>***", text)


def complete(text: str) -> str:
    """HOST:PORT (as in `--addr`) as a URL; a URL as it is."""
    return text if "://" in text or text.startswith("embedded:") else f"redis://{text}"


def parse(url: str) -> Address:
    """Take `url` apart. Raises ValueError that says what was expected and never repeats the password."""
    if url.startswith("embedded:"):
        return Address("embedded", (), _folder(url.removeprefix("embedded:")), 0)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES or scheme == "embedded":
        raise ValueError(EXPECTED)
    rest, _, query = rest.partition("?")
    if scheme == "unix":
        path = rest[rest.rfind("@") + 1 :]
        if not path.startswith("/"):
            raise ValueError("expected an absolute path after unix://, as in unix:///run/redis/redis.sock")
        return Address(scheme, (), path, _db(_queried_db(query) or "0"))
    at = rest.rfind("@")
    authority, _, path = rest[at + 1 :].partition("/")
    hosts = tuple(_hosts(authority, _DEFAULT_PORTS.get(scheme, 6379)))
    match scheme.partition("+")[2]:
        case "sentinel":
            group, _, db = path.partition("/")
            if not group:
                raise ValueError("expected the name of the Sentinel group, as in redis+sentinel://h1,h2/mymaster")
            return Address(scheme, hosts, group, _db(_queried_db(query) or db or "0"))
        case "cluster":
            if path.strip("/"):
                raise ValueError("a Cluster has no database numbers: nothing may follow its hosts")
            return Address(scheme, hosts, "", 0)
    if len(hosts) > 1:
        raise ValueError("expected one host; several need redis+sentinel:// or redis+cluster://")
    return Address(scheme, hosts, "", _db(_queried_db(query) or path.rstrip("/") or "0"))


def same_server(a: str, b: str) -> bool:
    """Whether two valid URLs lead to the same data, whatever their credentials, options and order of hosts."""
    one, other = parse(a), parse(b)
    if one.scheme == other.scheme and one.scheme.endswith(("+sentinel", "+cluster")):
        # Sentinels and nodes come and go; one that both know vouches for the group.
        return (one.place, one.db) == (other.place, other.db) and bool(set(one.hosts) & set(other.hosts))
    return (one.scheme, frozenset(one.hosts), one.place, one.db) == (
        other.scheme,
        frozenset(other.hosts),
        other.place,
        other.db,
    )


def _folder(path: str) -> str:
    path = path.removeprefix("//") if path.startswith("///") else path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError("expected a folder after embedded:, as in embedded:var/redis")
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _hosts(authority: str, default_port: int) -> Iterator[tuple[str, int]]:
    for item in authority.split(","):
        host, port = item, ""
        if item.startswith("["):
            host, _, port = item[1:].partition("]")
            port = port.removeprefix(":")
        elif ":" in item:
            host, port = item.rsplit(":", 1)
        if not host or any(c.isspace() for c in host) or (":" in host and not item.startswith("[")):
            raise ValueError("expected HOST or HOST:PORT after ://, with an IPv6 address in brackets")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("expected a port from 1 to 65535")
        yield host.lower(), int(port) if port else default_port


def _queried_db(query: str) -> str:
    return next((pair[3:] for pair in query.split("&") if pair.startswith("db=")), "")


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("expected a database number after the host, as in redis://localhost:6379/0")
    return int(text)


def password(url: str) -> tuple[str, ...]:
    """The password in `url`, as written and with its %-escapes resolved if that differs; empty if there is none."""
    rest = url.partition("://")[2].partition("?")[0]
    userinfo, at, _ = rest.rpartition("@")
    written = userinfo.partition(":")[2] if at else ""
    decoded = re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), written)
    return tuple(dict.fromkeys(text for text in (written, decoded) if text))
