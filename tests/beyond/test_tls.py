"""rediss:// and ACL users, for workers and steward (a Wire) and for producers, exporter and jqctl (redis-py) alike."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from jobqueue import JobQueue
from jobqueue.errors import JobQueueError, ServerRefused, TlsFailed, Unavailable
from jobqueue.redis.connect import endpoint
from jobqueue.redis.server import Server as Client
from jobqueue.redis.wire import Wire
from jobqueue.settings import RedisSettings
from tests.conftest import NewServer
from tests.support.certificates import Authority
from tests.support.jqd import job, leftovers, push
from tests.support.ports import free_port
from tests.support.servers import Server, debian_binary
from tests.support.waiting import eventually
from tests.whole.conftest import NewJqd


class Encrypted:
    """A server with TLS on `port`. `options`: of a url that its checks accept, but for a client certificate."""

    def __init__(self, server: Server, port: int, authority: Authority) -> None:
        self.server, self.port, self.options = server, port, f"ssl_ca_certs={quote(authority.cert, safe='/')}"

    def url(self, *, host: str = "localhost", user: str = "", options: str | None = None) -> str:
        return f"rediss://{user}{'@' if user else ''}{host}:{self.port}?{self.options if options is None else options}"


@pytest.fixture
def encrypted(new_server: NewServer, authority: Authority) -> Callable[..., Encrypted]:
    """`encrypted(clients="no" | "yes", names=…)`: Debian's server with TLS; `clients`: whether it wants a certificate of theirs."""
    binary = debian_binary()
    if binary is None:
        pytest.skip("redis-server is not installed")

    def start(clients: str = "no", names: tuple[str, ...] = ("DNS:localhost", "IP:127.0.0.1")) -> Encrypted:
        signed, port = authority.sign(f"server-{free_port()}", *names), free_port()
        options = ("--tls-port", str(port), "--tls-cert-file", signed.cert, "--tls-key-file", signed.key)
        options += ("--tls-ca-cert-file", authority.cert, "--tls-auth-clients", clients)
        return Encrypted(new_server(appendonly=True, binary=binary, options=options), port, authority)

    return start


def by_wire(url: str) -> object:
    wire = Wire(endpoint(RedisSettings(url=url)), "test", 2.0)
    try:
        return wire.call("PING")
    finally:
        wire.close()


def by_client(url: str) -> object:
    client = Client(RedisSettings(url=url))
    try:
        return client.call("PING")
    finally:
        client.close()


both = pytest.mark.parametrize("ping", [by_wire, by_client])


@both
def test_a_server_signed_by_the_named_authority_is_trusted(
    encrypted: Callable[..., Encrypted], ping: Callable[[str], object]
) -> None:
    assert ping(encrypted().url()) in (b"PONG", True)


@both
@pytest.mark.parametrize(
    ("case", "cure"),
    [
        ("unknown authority", "ssl_ca_certs"),
        ("another name", "another name"),
        ("no client certificate", "ssl_certfile"),
        ("no such file", "nowhere.crt"),
        ("not a certificate", "PEM"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_at_once(
    encrypted: Callable[..., Encrypted], ping: Callable[[str], object], case: str, cure: str, tmp_path: object
) -> None:
    begun = time.monotonic()
    match case:
        case "unknown authority":
            url = encrypted().url(options="")
        case "another name":
            url = encrypted(names=("DNS:other.example",)).url()
        case "no client certificate":
            url = encrypted(clients="yes").url()
        case "no such file":
            url = encrypted().url(options="ssl_ca_certs=/nowhere.crt")
        case _:
            url = encrypted().url(options="ssl_ca_certs=/etc/passwd")
    with pytest.raises(Unavailable, match=cure) as caught:
        ping(url)
    if case != "no client certificate":  # whose alert a reset may overtake; the error then only guesses
        assert isinstance(caught.value, TlsFailed)
        assert not caught.value.sent
    assert time.monotonic() - begun < 20


@both
def test_a_port_without_tls_does_not_answer_a_handshake_and_the_error_says_so(
    encrypted: Callable[..., Encrypted], ping: Callable[[str], object]
) -> None:
    one = encrypted()
    one.port = free_port()
    one.server.client().config_set("port", one.port)
    with pytest.raises(Unavailable, match="is it redis://"):
        ping(one.url())


@both
def test_a_client_certificate_is_shown_to_a_server_that_wants_one(
    encrypted: Callable[..., Encrypted], authority: Authority, ping: Callable[[str], object]
) -> None:
    mine = authority.sign("client")
    one = encrypted(clients="yes")
    assert ping(one.url(options=f"{one.options}&ssl_certfile={mine.cert}&ssl_keyfile={mine.key}")) in (b"PONG", True)


@both
def test_the_checks_can_be_switched_off_one_by_one(
    encrypted: Callable[..., Encrypted], ping: Callable[[str], object]
) -> None:
    other = encrypted(names=("DNS:other.example",))
    assert ping(other.url(options=f"{other.options}&ssl_check_hostname=false")) in (b"PONG", True)
    assert ping(other.url(options="ssl_cert_reqs=none")) in (b"PONG", True)


@both
def test_a_listener_that_never_answers_the_handshake_is_no_hang(ping: Callable[[str], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            ping(f"rediss://127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - begun < 20  # connect_timeout is 5 s


@both
def test_a_wrong_password_is_an_answer_and_never_shown(
    encrypted: Callable[..., Encrypted], ping: Callable[[str], object]
) -> None:
    one = encrypted()
    one.server.client().execute_command("ACL", "SETUSER", "jobs", "on", ">right", "~*", "&*", "+@all")
    assert ping(one.url(user="jobs:right")) in (b"PONG", True)
    with pytest.raises(ServerRefused) as caught:
        ping(one.url(user="jobs:wr0ng"))
    assert caught.value.code == "WRONGPASS"
    assert "wr0ng" not in str(caught.value)


def test_large_replies_and_waiting_work_over_tls(encrypted: Callable[..., Encrypted]) -> None:
    """A reply of many TLS records, and one that is waited for by `poll`, which must not block on half a record."""
    one = encrypted()
    wire = Wire(endpoint(RedisSettings(url=one.url())), "test", 5.0)
    try:
        body = bytes(1_000_000)
        assert wire.call("SET", "k", body) == b"OK"
        assert wire.pipe([["GET", "k"]] * 5) == [body] * 5
        wire.send("BLPOP", "list", 5)
        timer = threading.Timer(0.1, lambda: one.server.client().lpush("list", body))
        timer.start()
        reply = eventually(lambda: r if isinstance(r := wire.poll(), list) else None, 5)
        timer.join()
        assert reply[1] == body
    finally:
        wire.close()


def test_redis_url_alone_is_enough(jqd: NewJqd, encrypted: Callable[..., Encrypted], authority: Authority) -> None:
    """As a provider of Redis gives it: one address in the environment, signed by an authority that this machine trusts."""
    one = encrypted()
    client = one.server.client()
    client.execute_command("ACL", "SETUSER", "default", "on", "resetpass", ">s3cret/+@", "~*", "&*", "+@all")
    client = one.server.client(password="s3cret/+@")
    it = jqd(url="redis://nowhere.example:1", start=False, http={"listen": f"127.0.0.1:{free_port()}"})
    it.environment = {"REDIS_URL": one.url(user="default:s3cret%2F%2B%40", options=""), "SSL_CERT_FILE": authority.cert}
    it.start()
    push(client, *(job("note", {"name": str(n)}) for n in range(50)))
    eventually(lambda: len(it.runs("note")) == 50)
    assert {c["addr"].rpartition(":")[0] for c in client.client_list() if c["name"].startswith("jqd:")} == {"127.0.0.1"}
    assert it.stop() == 0
    assert leftovers(client) == {}
    assert "s3cret" not in it.text()


@pytest.mark.parametrize("fault", ["authority", "client certificate"])
def test_a_jqd_that_cannot_trust_its_server_says_why_and_ends_with_78(
    jqd: NewJqd, encrypted: Callable[..., Encrypted], fault: str
) -> None:
    one = encrypted(clients="yes" if fault == "client certificate" else "no")
    it = jqd(url=one.url(options="") if fault == "authority" else one.url(), start=False)
    begun = time.monotonic()
    it.start(wait=False)
    assert it.process is not None
    assert it.process.wait(20) == 78
    assert ("ssl_ca_certs" if fault == "authority" else "ssl_certfile") in it.text()
    assert time.monotonic() - begun < 15


def test_a_password_is_rotated_by_hup_under_load(jqd: NewJqd, encrypted: Callable[..., Encrypted]) -> None:
    """Both passwords hold for a while, as ACL allows; then the old one and everybody who came with it are thrown out."""
    one = encrypted()
    client = one.server.client()
    client.execute_command("ACL", "SETUSER", "jobs", "on", ">old-one", "~*", "&*", "+@all")
    it = jqd(url=one.url(user="jobs:old-one"), http={"listen": f"127.0.0.1:{free_port()}"})
    push(client, *(job("sleep", {"name": str(n), "seconds": 0.02}) for n in range(200)))
    eventually(lambda: it.runs("slept"))
    client.execute_command("ACL", "SETUSER", "jobs", ">new-one")
    it.url = one.url(user="jobs:new-one")
    it.configure(http=it.config["http"])
    it.send(signal.SIGHUP)
    eventually(lambda: it.events("reloaded"), 20)
    client.execute_command("ACL", "SETUSER", "jobs", "<old-one")
    eventually(lambda: len(it.titles("exporter")) == 1 and len(it.titles("steward")) == 1)
    for connection in client.client_list():
        if connection["user"] == "jobs":
            client.client_kill_filter(_id=connection["id"])
    eventually(lambda: len(it.runs("slept")) >= 200, 20)
    push(client, job("note", {"name": "after"}))
    eventually(lambda: it.runs("note"))
    assert len(it.runs("sleep")) == len(it.runs("slept")) == 200, "none was run twice"
    assert it.stop() == 0
    assert leftovers(client) == {}
    assert not {"old-one", "new-one"} & set(it.text().replace(":", " ").replace("@", " ").split())


def test_another_server_is_refused_at_hup(jqd: NewJqd, encrypted: Callable[..., Encrypted]) -> None:
    one = encrypted()
    it = jqd(url=one.url())
    it.url = one.url().replace(str(one.port), str(free_port()))
    it.configure()
    it.send(signal.SIGHUP)
    [end] = eventually(lambda: it.events("reload failed"), 20)
    assert "another place" in end["error"]
    push(one.server.client(), job("note", {"name": "after"}))
    eventually(lambda: it.runs("note"))


def test_a_producer_hears_of_a_wrong_certificate_as_an_error_of_the_library(
    encrypted: Callable[..., Encrypted],
) -> None:
    with pytest.raises(JobQueueError, match="ssl_ca_certs"), JobQueue(encrypted().url(options="")) as queue:
        queue.enqueue("note", {"name": "x"})
