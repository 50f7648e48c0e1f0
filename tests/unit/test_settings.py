"""Settings as data: defaults, the trip between processes, and what is never shown."""

import msgspec
import pytest

from jobqueue import address
from jobqueue.settings import EVERY_QUEUE, QueueSettings, RedisSettings, settings_of
from supervisor.settings import Http, Pool, Settings, decode, encode, host_port, masked, same_server, secrets


def some() -> Settings:
    return Settings(
        pools=(Pool(name="default", processes=2, queues=("a", "b"), weights=(2, 1), max_memory=1 << 30),),
        redis=RedisSettings(url="redis://u:p%40ss@h/1"),
        queues={EVERY_QUEUE: QueueSettings(max_attempts=3), "a": QueueSettings(max_attempts=9)},
        http=Http(listen=None, token="sesame"),
    )


def test_settings_survive_the_trip_to_another_process() -> None:
    assert decode(encode(some())) == some()


def test_foreign_bytes_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"pools": 3}')


def test_a_queue_without_an_entry_has_the_settings_of_the_star() -> None:
    assert some().queue("a").max_attempts == 9
    assert some().queue("unheard-of").max_attempts == 3
    assert settings_of({}, "unheard-of") == QueueSettings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:hunter2@h:1/2", "redis://user:***@h:1/2"),
        ("redis://:hun@ter2@h", "redis://:***@h"),
        ("redis://:hun/ter2@h/0", "redis://:***@h/0"),
        ("redis://hunter2@h/0", "redis://***@h/0"),
        ("unix://:hunter2@/run/r.sock?db=1", "unix://:***@/run/r.sock?db=1"),
        ("redis://h?password=hunter2&db=1", "redis://h?password=***&db=1"),
        (
            "redis+sentinel://u:hunter2@h1,h2/m?sentinel_password=hunter2",
            "redis+sentinel://u:***@h1,h2/m?sentinel_password=***",
        ),
        ("no redis://a:hunter2@h and redis://b:hunter2@i", None),
        ("embedded:var/redis", "embedded:var/redis"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    ],
)
def test_passwords_are_masked(url: str, shown: str | None) -> None:
    assert "hunter2" not in masked(url) and "ter2" not in masked(url)
    if shown is not None:
        assert masked(url) == shown


def test_secrets_are_known_as_written_and_as_decoded() -> None:
    assert set(secrets(some())) == {"sesame", "p%40ss", "p@ss"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis://a:b@h:6379/0", "redis://c:d@H", True),
        ("redis://h/0", "redis://h/1", False),
        ("redis://h/0", "rediss://h/0", False),
        ("redis://h", "redis://i", False),
        ("redis://h/1", "redis://h?db=1", True),
        ("redis+sentinel://a,b/m", "redis+sentinel://b:26379,a:26379/m", True),
        ("redis+sentinel://a,b/m", "redis+sentinel://a,b/n", False),
        ("embedded:var/redis", "embedded:./var/redis/", True),
        ("embedded:var/redis", "embedded:/var/redis", False),
        ("unix:///a", "unix://u:p@/a?db=0", True),
    ],
)
def test_a_reload_may_change_credentials_but_not_the_server(one: str, other: str, same: bool) -> None:
    assert same_server(RedisSettings(url=one), RedisSettings(url=other)) is same
    assert not same_server(RedisSettings(url=one), RedisSettings(url=other, key_prefix="other"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:2112", ("127.0.0.1", 2112)),
        ("[::1]:80", ("::1", 80)),
        (":2112", ("0.0.0.0", 2112)),
        ("h:0", ("h", 0)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert host_port(text) == expected


@pytest.mark.parametrize("text", ["2112", "h:", "h:65536", "::1:80", "http://h:80", "h:٣", "a b:1"])
def test_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|brackets"):
        host_port(text)


@pytest.mark.parametrize(
    "url",
    ["", "h:6379", "http://h", "redis://", "redis://h:x", "redis://h:0", "redis://h/x", "redis://a,b", "unix://a", "embedded:",
     "redis+sentinel://h", "redis+cluster://h/1", "redis://::1"],
)  # fmt: skip
def test_addresses_that_mean_nothing(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Cluster"):
        address.parse(url)
