"""The configuration file: what is understood, and that every mistake is told with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from msgspec import Struct, inspect

from jobqueue import units
from jobqueue.settings import Backoff, CronEntry
from jobqueue.yamlfile import ConfigError, load_producer
from supervisor import cpus
from supervisor.settings import Http, Log, Pool, Settings, Shutdown, load

CONFIG = Path(__file__).parents[2] / "config"
LEAST = "handlers: [m]\npools: [{name: p, queues: [a]}]\n"


def read(tmp_path: Path, text: str | bytes, options: dict[str, Any] | None = None, **environ: str) -> Settings:
    path = tmp_path / "jq.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path), environ=environ, options=options)


def faults(tmp_path: Path, text: str | bytes, options: dict[str, Any] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, options, **environ)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


# What is understood.


def test_the_least_file(tmp_path: Path) -> None:
    settings = read(tmp_path, LEAST)
    assert settings == Settings(pools=(Pool(name="p", queues=("a",)),), handlers=("m",))


def test_units_weights_and_sections(tmp_path: Path) -> None:
    text = """
    handlers: [a.b, ./jobs.py]
    pools:
      - {name: one, processes: 3, queues: {high: 6, low: 3}, claim_budget: 2ms, max_memory: 1GiB, max_age: 2h, nice: -5}
      - {name: two, queues: [x], preload: no, max_jobs: 1_000}
    queues:
      x: {time_limit: null, dead_ttl: 7d, backoff: {base: .5}}
    http: {listen: off}
    shutdown: {drain_timeout: 0.5}
    log: {file: /tmp/x.log}
    """
    settings = read(tmp_path, text)
    assert settings.pools[0] == Pool(
        name="one",
        processes=3,
        queues=("high", "low"),
        weights=(6, 3),
        claim_budget=0.002,
        max_memory=2**30,
        max_age=7200,
        nice=-5,
    )
    assert (settings.pools[1].preload, settings.pools[1].max_jobs) == (False, 1000)
    assert settings.queue("x").time_limit is None
    assert settings.queue("x").dead_ttl == 7 * 86400
    assert settings.queue("x").backoff == Backoff(base=0.5)
    assert (settings.http, settings.shutdown, settings.log) == (
        Http(listen=None),
        Shutdown(0.5),
        Log(file="/tmp/x.log"),
    )


def test_the_entry_default_is_one_queue_and_the_star_is_all(tmp_path: Path) -> None:
    text = (
        LEAST
        + 'queues: {"*": {max_attempts: 3, backoff: {base: 2}}, default: {max_crashes: 9}, b: {backoff: {max: 9s}}}'
    )
    settings = read(tmp_path, text)
    assert [settings.queue(name).max_crashes for name in ("default", "a", "b")] == [9, 3, 3]
    assert [settings.queue(name).max_attempts for name in ("default", "a", "b")] == [3, 3, 3]
    assert settings.queue("b").backoff == Backoff(base=2, max=9)


def test_variables_expand_and_take_the_type_of_their_place(tmp_path: Path) -> None:
    text = """
    handlers: ["${MODULE}.handlers"]
    pools: [{name: p, queues: [a], processes: ${N:-4}, preload: ${PRE:-true}, max_age: "${AGE}"}]  # ${COMMENT}
    http: {listen: ${HOST:-127.0.0.1}:${PORT:-2112}, token: ${TOKEN:-}}
    """
    settings = read(tmp_path, text, MODULE="shop", PORT="80", AGE="5m", TOKEN="12345", PRE="")
    assert settings.handlers == ("shop.handlers",)
    assert (settings.pools[0].processes, settings.pools[0].preload, settings.pools[0].max_age) == (4, True, 300)
    assert settings.http == Http("127.0.0.1:80", "12345")


def test_options_win_over_environment_over_file(tmp_path: Path) -> None:
    text = LEAST + "redis: {url: redis://file}\nhttp: {listen: f:1}\nlog: {level: error}\n"
    environ = {
        "JQ_REDIS_ADDR": "env:1",
        "REDIS_URL": "redis://platform",
        "JQ_CONCURRENCY": "3",
        "JQ_METRICS_ADDR": ":3",
    }
    options = {"addr": "option:2", "concurrency": "5", "metrics_addr": "off", "log_level": "debug"}

    def chosen(settings: Settings) -> tuple[object, ...]:
        return settings.redis.url, settings.pools[0].processes, settings.http.listen, settings.log.level

    assert chosen(read(tmp_path, text)) == ("redis://file", 1, "f:1", "error")
    assert chosen(read(tmp_path, text, **environ)) == ("redis://env:1", 3, ":3", "error")
    assert chosen(read(tmp_path, text, options, **environ)) == ("redis://option:2", 5, None, "debug")
    assert read(tmp_path, text, REDIS_URL="redis://platform").redis.url == "redis://platform"


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = """
    handlers: [m]
    pools:
      - &first {name: one, queues: [a], processes: 2}
      - {<<: *first, name: two}
    """
    assert [(pool.name, pool.processes) for pool in read(tmp_path, text).pools] == [("one", 2), ("two", 2)]


# What is refused, each with its place.

CASES = {
    "unknown section": (LEAST + "pols: 1", "jq.yaml:3:1: pols: unknown key 'pols'; did you mean 'pools'?"),
    "unknown key": (LEAST + "log: {levl: info}", "jq.yaml:3:7: log.levl: unknown key 'levl'; did you mean 'level'?"),
    "far from any": (LEAST + "log: {zzz: 1}", "jq.yaml:3:7: log.zzz: unknown key 'zzz'"),
    "derived": (LEAST.replace("[a]", "[a], weights: [1]"), "pools[0].weights: unknown key 'weights'"),
    "literal": (LEAST + "log: {level: warn}", "jq.yaml:3:14: log.level: found 'warn', expected debug or error or info or warning"),
    "text for a number": (LEAST + "queues: {a: {max_attempts: many}}", "found 'many', expected a whole number"),
    "fraction": (LEAST + "queues: {a: {max_attempts: 2.5}}", "found 2.5, expected a whole number"),
    "too small": (LEAST + "queues: {a: {max_attempts: 0}}", "found 0, expected a whole number, at least 1"),
    "claim_max": (LEAST.replace("[a]", "[a], claim_max: 0"), "pools[0].claim_max: found 0, expected a whole number, at least 1"),
    "nice": (LEAST.replace("[a]", "[a], nice: 20"), "found 20, expected a whole number, at most 19"),
    "number for text": (LEAST + "redis: {key_prefix: 5}", "found 5, expected text, which has to be quoted here"),
    "bool for text": (LEAST + "pidfile: no", "pidfile: found no (a yes or no), expected the path of a file"),
    "text for a bool": (LEAST + "redis: {allow_eviction: 'true'}", "found 'true', expected true or false"),
    "list for a mapping": (LEAST + "redis: [a]", "redis: found a list, expected a mapping with url, key_prefix, allow_eviction, …"),
    "mapping for a list": (LEAST + "http: {hosts: {a: 1}}", "http.hosts: found a mapping, expected a list"),
    "null for a value": (LEAST + "shutdown: {drain_timeout: }", "found nothing (null), expected a duration"),
    "bad duration": (LEAST + "shutdown: {drain_timeout: 5 parsecs}", "found '5 parsecs', expected a duration such as 10ms"),
    "bad size": (LEAST.replace("[a]", "[a], max_memory: 5MX"), "found '5MX', expected a size such as 512MB or 1GiB"),
    "negative": (LEAST + "shutdown: {drain_timeout: -3}", "found -3, expected a duration"),
    "time limit": (LEAST + "queues: {a: {time_limit: 0}}", "queues.a.time_limit: found 0, expected a duration"),
    "endless": (LEAST + "queues: {a: {time_limit: .inf}}", "found .inf, expected a duration"),
    "weight": (LEAST.replace("[a]", "{a: heavy}"), "pools[0].queues.a: found 'heavy', expected a weight"),
    "processes": (LEAST.replace("[a]", "[a], processes: four"), "found 'four', expected a number of processes, at least 1, or auto"),
    "too many": (LEAST.replace("[a]", "[a], processes: 1000"), "found 1000 processes, and 250 more during a reload"),
    "one queue": (LEAST.replace("[a]", "a"), "pools[0].queues: found 'a', expected a list of queues in strict order, as in [a]"),
    "no queue": (LEAST.replace("[a]", "[]"), "pools[0].queues: found a list, expected at least one queue"),
    "queue twice": (LEAST.replace("[a]", "[a, a]"), "jq.yaml:2:31: pools[0].queues[1]: queue 'a' stands here twice"),
    "queue with braces": (LEAST.replace("[a]", '["{a}"]'), "braces are not allowed"),
    "empty queue": (LEAST.replace("[a]", '[""]'), "a queue's name must not be empty"),
    "queue called no": (LEAST.replace("[a]", "[no]"), "found no (a yes or no), expected the name of a queue (in quotes"),
    "star in a pool": (LEAST.replace("[a]", '["*"]'), "a pool lists its queues one by one"),
    "pool's name": (LEAST.replace("name: p", "name: P 1"), "pools[0].name: found 'P 1', expected a name: up to 32 of a-z"),
    "no name": (LEAST.replace("name: p, ", ""), "jq.yaml:2:9: pools[0]: name is missing"),
    "no pools": ("handlers: [m]", "jq.yaml:1:1: there are no pools"),
    "empty pools": ("handlers: [m]\npools: []", "pools: there are no pools"),
    "pools as a mapping": ("handlers: [m]\npools: {name: p}", "pools: found a mapping, expected a list of pools"),
    "no handlers": ("pools: [{name: p, queues: [a]}]", "there are no handlers"),
    "handlers as text": (LEAST.replace("[m]", "m"), "handlers: found 'm', expected a list of modules, as in [m]"),
    "no module": (LEAST.replace("[m]", "[my-module]"), "handlers[0]: found 'my-module', expected a module"),
    "same pool twice": (
        "handlers: [m]\npools:\n- {name: p, queues: [a]}\n- {name: p, queues: [b]}",
        "jq.yaml:4:10: pools[1].name: a second pool is called 'p'",
    ),
    "key twice": (LEAST + "log: {level: info, level: info}", "jq.yaml:3:20: log.level: this key stands here twice, first in line 3"),
    "raw without handler": (LEAST + "queues: {a: {codec: raw}}", "queues.a: codec raw needs a handler"),
    "handler without raw": (LEAST + "queues: {a: {handler: x}}", "queues.a.handler: a handler is only for codec: raw"),
    "shared key": (LEAST + "queues: {b: {key: k}, c: {key: k}}", "queues.c.key: the key 'k' belongs to queue 'b'"),
    "key of a queue": (LEAST + "queues: {b: {key: c}, c: {}}", "queues.b.key: the key 'c' belongs to queue 'c'"),
    "key of a pool's queue": (LEAST + "queues: {b: {key: a}}", "pools[0].queues: 'a' is the Redis key of queue 'b'"),
    "key for all": (LEAST + 'queues: {"*": {key: k}}', "two queues cannot share a key"),
    "key with braces": (LEAST + "queues: {b: {key: '{k}'}}", "queues.b.key: found '{k}'; braces are not allowed"),
    "backoff": (LEAST + "queues: {a: {backoff: {base: 2m, max: 1m}}}", "queues.a.backoff: backoff.max is below backoff.base"),
    "listen": (LEAST + "http: {listen: localhost}", "http.listen: found 'localhost', expected HOST:PORT with a port"),
    "url": (LEAST + "redis: {url: 'ftp://x'}", "redis.url: found 'ftp://x', expected redis://HOST:PORT/DB"),
    "maxmemory": (LEAST + "redis: {url: 'redis://h', maxmemory: 1GB}", "redis.maxmemory: maxmemory is for the embedded server"),
    "variable": (LEAST + "pidfile: ${NOPE}", "jq.yaml:3:10: pidfile: the environment variable NOPE is not set"),
    "bad variable": (LEAST + "pidfile: ${1X}", "found ${1X}, expected ${NAME} or ${NAME:-default}"),
    "open variable": (LEAST + "pidfile: ${X", "found ${X, expected ${NAME} or ${NAME:-default}"),
    "empty": ("", "jq.yaml: the file is empty"),
    "comments only": ("# nothing\n", "jq.yaml: the file is empty"),
    "not a mapping": ("- a", "jq.yaml:1:1: found a list, expected a mapping"),
    "not YAML": ("a: [b\nc: d", "jq.yaml:2:2: not YAML: did not find expected ',' or ']'"),
    "tab": ("pools:\n\t- name: x", "indent with spaces, not tabs"),
    "star without quotes": (LEAST + "queues:\n  *: {max_attempts: 1}", 'quote a star: "*"'),
    "control character": (b"a: \x01b", "jq.yaml:1:4: not YAML"),
    "not UTF-8": (b"a: b\nc: \xff", "jq.yaml:2:4: not UTF-8 text"),
    "two documents": (LEAST + "---\na: b", "jq.yaml:3:1: not YAML: but found another document"),
    "a loop": (LEAST + "log: &a {level: *a}", "log.level: an alias of a value that contains it"),
    "a strange tag": (LEAST + "pidfile: !!python/name:os.system", "the tag tag:yaml.org,2002:python/name:os.system is not known"),
    "a list as key": (LEAST + "log: {[a]: 1}", "a key must be plain text"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, case: str) -> None:
    text, expected = CASES[case]
    assert [line for line in faults(tmp_path, text) if expected in line], faults(tmp_path, text)


def test_one_mistake_is_told_once(tmp_path: Path) -> None:
    more_than_one = {case: found for case, (text, _) in CASES.items() if len(found := faults(tmp_path, text)) > 1}
    assert not more_than_one


def test_all_mistakes_at_once_in_order(tmp_path: Path) -> None:
    text = "pools:\n- {name: P, queues: [], nmae: x}\nlog: {level: loud}\nhandlers: [m]\nredis: {url: ${NOPE}}\nx: 1\n"
    found = faults(tmp_path, text, JQ_CONCURRENCY="lots", JQ_METRICS_ADDR="here")
    places = [line.split(": ")[0] for line in found]
    assert places == ["environment", "environment", "jq.yaml:2:10", "jq.yaml:2:21", "jq.yaml:2:25", "jq.yaml:3:14",
                      "jq.yaml:5:14", "jq.yaml:6:1"]  # fmt: skip


def test_overrides_are_blamed_on_their_source(tmp_path: Path) -> None:
    found = faults(tmp_path, LEAST, {"addr": "redis://u:pw@h:x", "log_level": "inf"}, JQ_CONCURRENCY="0")
    assert found[0].startswith("command line: --addr: found 'redis://u:***@h:x', expected a port")
    assert "command line: --log-level: found 'inf', expected debug, info, warning, error; did you mean 'info'?" in found
    assert "environment: JQ_CONCURRENCY: found '0', expected a number of processes, at least 1, or auto" in found


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read: (No such file|Is a directory)"):
            load(str(path), environ={}, options={})


def test_many_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert any("more than 20000 values" in line for line in faults(tmp_path, text))


SECRETS = {
    "url": LEAST + "redis: {url: 'redis://u:hunter2@h:x'}",
    "url of no scheme": LEAST + "redis: {url: 'ridis://u:hunter2@h'}",
    "url as section": LEAST + "redis: redis://u:hunter2@h",
    "token as a number": LEAST + "http: {token: 0xhunter2}\nlog: 1",
    "token as list": LEAST + "http: {token: [hunter2]}",
    "token as section": LEAST + "http: hunter2",
    "expanded": LEAST + "shutdown: {drain_timeout: ${SECRET}}\nlog: {level: '${SECRET}'}",
    "expanded name": LEAST.replace("name: p", "name: '${SECRET} x'"),
    "url as a key": LEAST + "redis: {'redis://u:hunter2@h': 1}",
}


@pytest.mark.parametrize("case", SECRETS)
def test_no_fault_shows_a_secret(tmp_path: Path, case: str) -> None:
    assert "hunter2" not in "\n".join(faults(tmp_path, SECRETS[case], SECRET="hunter2"))


def test_a_producer_reads_only_redis_and_queues(tmp_path: Path) -> None:
    path = tmp_path / "jq.yaml"
    path.write_text(
        "redis: {url: redis://h}\nqueues: {a: {max_length: 5}}\nhandlers: [m]\npools: nonsense\nhttp: {token: ${NOPE}}\n"
    )
    found = load_producer(str(path), {})
    assert (found.redis.url, found.queues["a"].max_length, found.handlers) == ("redis://h", 5, ("m",))
    assert load_producer(str(path), {"JQ_REDIS_ADDR": "i:1"}).redis.url == "redis://i:1"
    path.write_text("redis: {url: a b}\nqueues: {a: {max_lenth: 5}}\n")
    with pytest.raises(ConfigError, match=r"(?s)redis\.url.*did you mean 'max_length'"):
        load_producer(str(path), {})


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="ab:{}[]-*&!#'\"$ \n\t,|>%@0", max_size=60))
def test_no_text_makes_the_reader_fail_otherwise(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, text)


# The files in config/.


def test_the_files_in_config_are_fine() -> None:
    for path in sorted(CONFIG.glob("*.yaml")):
        assert load(str(path), environ={}, options={}).pools


def test_the_example_names_every_key_with_its_default() -> None:
    text = (CONFIG / "jobqueue.yaml").read_text()
    lines = [line.lstrip(" #-") for line in text.splitlines()]
    for type_ in _structs(Settings):
        for field in inspect.type_info(type_).fields:  # type: ignore[union-attr]
            derived = isinstance(field.type, inspect.Metadata) and (field.type.extra or {}).get("derived")
            named = any(
                line.startswith(f"{field.name}:") or f"{{{field.name}:" in line or f", {field.name}:" in line
                for line in lines
            )
            assert named or derived, f"config/jobqueue.yaml does not mention {type_.__name__}.{field.name}"


def test_what_the_example_comments_out_is_the_default(tmp_path: Path) -> None:
    text = without_cron((CONFIG / "jobqueue.yaml").read_text())[0]
    kept = [line.replace("# ", "", 1) if _is_setting(line) else line for line in text.splitlines()]
    all_written = read(tmp_path, "\n".join(kept), JQD_TOKEN="")
    as_it_is = load(str(CONFIG / "jobqueue.yaml"), environ={}, options={})
    assert all_written == Settings(
        **{name: getattr(as_it_is, name) for name in Settings.__struct_fields__} | {"pidfile": "var/jqd.pid"}
    )


def test_the_entry_that_the_example_comments_out_works(tmp_path: Path) -> None:
    rest, entry = without_cron((CONFIG / "jobqueue.yaml").read_text())
    lines = [line.replace("# ", "", 1) for line in entry.splitlines() if not line.startswith(" " * 20)]
    written = read(tmp_path, "\n".join([rest, *lines]), JQD_TOKEN="").cron
    assert written == {"nightly": CronEntry("0 3 * * *", "report:build", '{"days":1}', "default")}


def without_cron(text: str) -> tuple[str, str]:
    """The text without the example of a cron entry, which is not about defaults; and the example."""
    before, cron, after = text.partition("# cron:")
    entry, _, after = after.partition("\n\n")
    return before + after, cron + entry


def _is_setting(line: str) -> bool:
    """A commented line `name: value`, with a value: of the rest the default is to have none."""
    return re.match(r" {0,6}# [a-z_]+: +[^# ]", line) is not None


def _structs(type_: type[Struct]) -> list[type[Struct]]:
    found, left = [], [type_]
    while left:
        one = left.pop()
        found.append(one)
        left += [t for t in _mentioned(inspect.type_info(one)) if t not in found]
    return found


def _mentioned(shape: Any) -> list[type[Struct]]:
    match shape:
        case inspect.StructType():
            return [t for field in shape.fields for t in _inside(field.type)]
    return []


def _inside(shape: Any) -> list[type[Struct]]:
    match shape:
        case inspect.StructType():
            return [shape.cls]
        case inspect.Metadata():
            return _inside(shape.type)
        case inspect.UnionType():
            return [t for one in shape.types for t in _inside(one)]
        case inspect.VarTupleType():
            return _inside(shape.item_type)
        case inspect.DictType():
            return _inside(shape.value_type)
    return []


# Units and CPUs.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10ms", 0.01), ("30s", 30), ("5m", 300), ("1.5h", 5400), ("7d", 604800), ("12", 12), (3, 3), (" 2 s", 2)],
)
def test_durations(text: str | int, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512_000_000), ("1GiB", 2**30), ("1.5KiB", 1536), ("10", 10), ("1gb", 10**9)]
)
def test_sizes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "s", "5M", "1h30m", "-1s", "1e3", "٣s", "nan", True])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        units.duration(text)


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/a/b", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("4:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "100000", "cpu/x/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu:/host/path", {"cpu/cpu.cfs_quota_us": "1000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("", {}, None),
    ],
)
def test_usable_cpus(tmp_path: Path, cgroup: str, files: dict[str, str], expected: int | None) -> None:
    """None: no quota, so as many as the affinity says."""
    unlimited = cpus.usable(tmp_path / "none", tmp_path / "none")
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(cgroup + "\n")
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    assert cpus.usable(tmp_path, tmp_path / "fs") == (unlimited if expected is None else min(expected, unlimited))
