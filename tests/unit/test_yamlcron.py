"""The section `cron`: what it becomes, and every mistake in it with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobqueue import codec
from jobqueue.cronjob import job_of
from jobqueue.settings import CronEntry, QueueSettings
from jobqueue.yamlcron import load_entries
from jobqueue.yamlfile import ConfigError
from supervisor.settings import Settings, decode, encode, load

LEAST = "handlers: [m]\npools: [{name: p, queues: [default, a]}]\nqueues: {r: {codec: raw, handler: h}}\n"


def read(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "jq.yaml"
    path.write_text(LEAST + text)
    return load(str(path), environ=environ)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(folder, text)
    return [line.removeprefix(f"{folder}/") for line in str(refused.value).splitlines()]


def test_the_least_and_everything(tmp_path: Path) -> None:
    text = """
cron:
  least: {schedule: "  */5 * *  * * ", type: t}
  "all.of-it:1": {schedule: "@Daily", type: t, payload: {n: 1}, queue: a, timezone: Europe/Berlin, catch_up: none, unique: k, max_attempts: 3}
  raw: {schedule: "0 0 3 * * *", type: h, payload: hello}
"""
    settings = read(tmp_path, text)
    assert settings.cron == {
        "least": CronEntry("*/5 * * * *", "t", queue="default"),
        "all.of-it:1": CronEntry("0 0 * * *", "t", '{"n":1}', "a", "Europe/Berlin", "none", "k", 3),
        "raw": CronEntry("0 0 3 * * *", "h", '"hello"', "r"),
    }
    assert decode(encode(settings)) == settings
    assert load_entries(str(tmp_path / "jq.yaml"), {}) == settings.cron
    assert read(tmp_path, "cron:\n").cron == read(tmp_path, "").cron == {}


def test_a_payload_is_what_json_would_have(tmp_path: Path) -> None:
    text = """cron: {a: {schedule: "* * * * *", type: t, payload: {whole: -12, float: 1.5e+3, yes: true, no: False, nothing: null, empty: ,
      text: "010", quoted: '1:30', date: 2026-01-31, list: [1, [2, {}]], env: "${HOST}/${NONE:-x}", big: 9223372036854775807}}}"""
    entry = read(tmp_path, text, HOST="h").cron["a"]
    assert msgspec.json.decode(entry.payload) == {
        "whole": -12, "float": 1500.0, "yes": True, "no": False, "nothing": None, "empty": None, "text": "010", "quoted": "1:30",
        "date": "2026-01-31", "list": [1, [2, {}]], "env": "h/x", "big": 2**63 - 1,
    }  # fmt: skip


def entry(**fields: str) -> str:
    told = {"schedule": '"0 3 * * *"', "type": "t", **fields}
    return "cron: {a: {" + ", ".join(f"{name}: {value}" for name, value in told.items() if value) + "}}"


CASES = {
    "a list": ("cron: [a]", "jq.yaml:4:7: cron: found a list, expected a mapping from names to entries"),
    "an entry as text": ("cron: {a: daily}", "cron.a: found text, expected a mapping with schedule, type, payload, …"),
    "unknown key": (entry(every="5m"), "cron.a.every: unknown key 'every'"),
    "misspelt key": (entry(catchup="last"), "cron.a.catchup: unknown key 'catchup'; did you mean 'catch_up'?"),
    "no schedule": (entry(schedule=""), "cron.a: schedule is missing"),
    "no type": (entry(type=""), "cron.a: type is missing"),
    "empty type": (entry(type='""'), "cron.a.type: found '', expected text that is not empty"),
    "a number": (entry(schedule="5"), "cron.a.schedule: found 5, expected minute hour day month weekday"),
    "minute": (entry(schedule='"61 * * * *"'), ("jq.yaml:4:22: cron.a.schedule: found '61 * * * *', expected minute hour day month weekday, "
               'as in "0 3 * * *" (with seconds before them, if there are six); bad minute')),
    "fields": (entry(schedule='"* * *"'), "wrong number of fields"),
    "never": (entry(schedule='"0 0 30 2 *"'), "bad day-of-month"),
    "nickname": (entry(schedule='"@reboot"'), "wrong number of fields"),
    "zone": (entry(timezone="europe/berln"), ("cron.a.timezone: found 'europe/berln', expected the name of a time zone, as in "
             "Europe/Berlin; did you mean 'Europe/Berlin'?")),
    "zone as a number": (entry(timezone="2"), "cron.a.timezone: found 2, expected the name of a time zone"),
    "catch up": (entry(catch_up="all"), "cron.a.catch_up: found 'all', expected last or none"),
    "attempts": (entry(max_attempts="0"), "cron.a.max_attempts: found 0, expected a whole number, at least 1"),
    "queue": (entry(queue="aa"), "cron.a.queue: queue 'aa' is in no pool and not under queues; name it in either; did you mean 'a'?"),
    "queue with braces": (entry(queue='"{a"'), "cron.a.queue: found '{a'; braces are not allowed"),
    "octal": (entry(payload="{x: 010}"), "cron.a.payload.x: found 010, expected text in quotes, a number as JSON has them"),
    "sexagesimal": (entry(payload='{"x": 1:30}'), "cron.a.payload.x: found 1:30, expected text in quotes"),
    "not a number": (entry(payload="[.nan]"), "cron.a.payload[0]: found .nan, expected"),
    "too large": (entry(payload="9223372036854775808"), "cron.a.payload: found 9223372036854775808, expected"),
    "a word": (entry(payload='{"x": on}'), "cron.a.payload.x: found on (a yes or no), expected text in quotes"),
    "raw": (entry(type="h", payload="{a: 1, b: 2}"), "cron.a: queue 'r' is raw and takes text or bytes, not dict"),
    "another's raw queue": (entry(queue="r", payload="x"), "cron.a: queue 'r' is raw and all its elements go to 'h', not to 't'"),
    "name": ('cron: {"a b": {schedule: "@daily", type: t}}', "cron.a b: found 'a b', expected a name of letters, digits and . : _ -"),
    "variable": (entry(payload="${NOPE}"), "cron.a.payload: the environment variable NOPE is not set"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_once_with_its_place(tmp_path: Path, case: str) -> None:
    text, expected = CASES[case]
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert expected in found[0]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = 'cron:\n  a: {schedule: x, type: "", payload: {x: 010, y: [.inf]}}\n  b: {timezone: Mars}\n  c: 1\n'
    places = [line.split(" ")[1].rstrip(":") for line in faults(tmp_path, text)]
    assert places == ["cron.a.schedule", "cron.a.type", "cron.a.payload.x", "cron.a.payload.y[0]", "cron.b", "cron.b", "cron.b.timezone", "cron.c"]  # fmt: skip


def test_the_job_of_a_tick() -> None:
    entry = CronEntry("0 3 * * *", "t", '{"n":1}', "a", "Europe/Berlin", unique="k", max_attempts=3)
    job = job_of("nightly", entry, {"a": QueueSettings(max_length=5)}, 1_767_232_800_000, 1_767_232_800_123)
    envelope = codec.decode(job.element, raw_type=None)
    assert (job.queue, job.unique, job.max_length, job.delay_ms, job.due_ms) == ("a", "k", 5, 0, 0)
    assert (envelope.type, bytes(envelope.payload), envelope.unique, envelope.max_attempts) == ("t", b'{"n":1}', "k", 3)
    assert envelope.id == job.id
    assert envelope.enqueued_at == 1_767_232_800_123
    assert envelope.headers == {"cron": "nightly", "tick": "2026-01-01T03:00:00+01:00"}


def test_the_job_of_a_raw_queue_is_the_text_and_nothing_else() -> None:
    queues: dict[str, Any] = {"r": QueueSettings(codec="raw", handler="h", key="jobs")}
    job = job_of("n", CronEntry("@daily", "h", '"u@foo.com,hello"'), queues, 0, 0)
    assert (job.queue, job.element) == ("r", b"u@foo.com,hello")
