"""Handlers: what may be one, how payloads become arguments, what is loaded from where, what is told about it."""

from __future__ import annotations

import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue import default
from jobqueue.default import NoDefaultQueue
from jobqueue.handlers import Handler
from jobqueue.job import Job
from jobqueue.registry import (
    DuplicateType,
    HandlersNotLoaded,
    InvalidHandler,
    PayloadMismatch,
    Registry,
    TypePolicy,
    handler,
    isolated,
    load,
    on_worker_start,
    on_worker_stop,
)
from jobqueue.settings import Backoff

JOB = Job("i", "t", "q", 1, 3, 0, 0, None, b"{}")


@pytest.fixture(autouse=True)
def registry() -> Iterator[Registry]:
    with isolated() as registry:
        yield registry


@dataclass
class Point:
    x: int
    y: float = 0.0


ORIGIN = Point(1)


def run(function: Callable[..., Any], payload: bytes, job: Job | None = None) -> Any:
    return Handler(function, TypePolicy("t")).run(payload, job)


# ---------------------------------------------------------------- @handler


def test_bare_the_type_is_the_functions_name(registry: Registry) -> None:
    @handler
    def send(n: int) -> int:
        """Sends."""
        return n + 1

    assert send(1) == 2
    assert (send.__name__, send.__doc__) == ("send", "Sends.")
    entry = registry.get("send")
    assert entry is not None
    assert entry.run(b'{"n":1}') == 2
    assert registry.get("other") is None


def test_what_the_decorator_says_is_kept_as_data(registry: Registry) -> None:
    @handler("a:b", max_attempts=5, time_limit="30s", backoff={"base": "2s", "max": "1m"}, queue="mail")
    def send() -> None: ...

    policy = TypePolicy("a:b", "mail", 5, 30.0, Backoff(base=2.0, max=60.0))
    assert send.handler.policy == policy
    assert registry.from_description(registry.describe()) == {"a:b": policy}
    assert (send.handler.max_attempts, send.handler.time_limit, send.handler.queue) == (5, 30.0, "mail")


def test_an_empty_registry_describes_itself_too(registry: Registry) -> None:
    assert registry.from_description(registry.describe()) == {}


async def coroutine() -> None: ...


async def async_generator() -> Any:
    yield 1


def generator() -> Any:
    yield 1


def star(*args: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"), [(coroutine, "async"), (async_generator, "async"), (generator, "generator")]
)
def test_functions_whose_call_would_run_nothing_are_refused(function: Any, why: str) -> None:
    with pytest.raises(InvalidHandler, match=why):
        handler(function)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"time_limit": "soon"},
        {"time_limit": 0},
        {"backoff": {"base": -1}},
        {"backoff": {"factor": "x"}},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidHandler):
        handler("t", **options)(lambda: None)
    with pytest.raises(InvalidHandler):
        handler("")(lambda: None)


def test_two_functions_for_one_type_are_an_error_that_names_both() -> None:
    handler("t")(Point)
    with pytest.raises(DuplicateType, match=r"Point and .*datetime"):
        handler("t")(datetime)


def test_the_same_function_again_replaces_itself(registry: Registry) -> None:
    def make(n: int) -> None:
        @handler("t")
        def same() -> int:
            return n

    make(1)
    make(2)
    assert registry.handlers["t"].run(b"{}") == 2


def test_hooks_are_kept_once_each(registry: Registry) -> None:
    for _ in range(2):
        on_worker_start(coroutine_free)
        on_worker_stop(coroutine_free)
    assert list(registry.worker_start.values()) == [coroutine_free]
    assert list(registry.worker_stop.values()) == [coroutine_free]


def coroutine_free() -> None: ...


# ---------------------------------------------------------------- arguments


def everything(
    a: int, b: str = "x", *, c: list[int] | None = None, when: datetime | None = None, p: Point = ORIGIN
) -> Any:
    return a, b, c, when, p


def test_a_payload_becomes_typed_arguments() -> None:
    assert run(everything, b'{"a":1}') == (1, "x", None, None, ORIGIN)
    payload = b'{"p":{"x":2,"y":1},"when":"2030-01-31T12:00:00Z","c":[1,2],"a":3}'
    a, b, c, when, p = run(everything, payload)
    assert (a, b, c, p) == (3, "x", [1, 2], Point(2, 1.0))
    assert when.isoformat() == "2030-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{}", "argument 'a' is missing"),
        (b'{"a":"1"}', "argument 'a': expected int, got str"),
        (b'{"a":1,"z":2}', r"argument 'z' is not one of the handler's \(a, b, c, when, p\)"),
        (b'{"a":1,"c":[1,"x"]}', r"argument 'c': expected int, got str \(at c\[1\]\)"),
        (b'{"a":1,"p":{}}', "argument 'p': object missing required field x"),
        (b"[1]", "expected object, got array: arguments come as a JSON object"),
        (b"null", "expected object, got null"),
        (b'{"a":1,"b":"\xff"}', "utf-8"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "."),
        (b'{"a":1e999}', "argument 'a'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_misfit_says_argument_expected_and_found(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadMismatch, match=reason):
        run(everything, payload)


VALUES = st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


@given(st.binary() | VALUES.map(msgspec.json.encode))
def test_any_payload_fits_or_mismatches(payload: bytes) -> None:
    try:
        run(everything, payload)
    except PayloadMismatch as mismatch:
        assert str(mismatch).startswith("payload of 't' does not fit its handler: ")


def test_unknown_keys_go_where_the_handler_wants_them() -> None:
    def loose(a: int, **rest: int) -> Any:
        return a, rest

    assert run(loose, b'{"a":1,"b":2}') == (1, {"b": 2})
    with pytest.raises(PayloadMismatch, match="argument 'b': expected int, got str"):
        run(loose, b'{"a":1,"b":"x"}')


def test_without_annotations_anything_goes() -> None:
    def plain(a, b=None):  # type: ignore[no-untyped-def]
        return a, b

    assert run(plain, b'{"a":{"x":[1,null]}}') == ({"x": [1, None]}, None)


def test_the_job_is_passed_to_whoever_asks_wherever_it_stands() -> None:
    def first(job: Job, a: int) -> Any:
        return job, a

    def middle(a: int, current: Job | None, b: int = 2) -> Any:
        return current, a, b

    def last(a: int, *, job: Job) -> Any:
        return job, a

    def alone(job: Job) -> Any:
        return job

    assert run(first, b'{"a":1}', JOB) == (JOB, 1)
    assert run(middle, b'{"a":1}', JOB) == (JOB, 1, 2)
    assert run(last, b'{"a":1}', JOB) == (JOB, 1)
    assert run(alone, b"{}", JOB) is JOB
    assert Handler(first, TypePolicy("t")).wants_job
    assert not Handler(everything, TypePolicy("t")).wants_job
    with pytest.raises(PayloadMismatch, match="argument 'job' is not one"):
        run(first, b'{"a":1,"job":{}}', JOB)


def test_what_the_handler_raises_is_not_a_misfit() -> None:
    def broken(a: int) -> None:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        run(broken, b'{"a":1}')


def test_mutable_defaults_are_the_functions_own() -> None:
    def collect(into: list[int] = [1]) -> Any:  # noqa: B006
        return into

    assert run(collect, b"{}") is run(collect, b"{}")


def test_star_arguments_are_refused_when_loaded() -> None:
    with pytest.raises(InvalidHandler, match=r"\*args"):
        Handler(star, TypePolicy("t")).prepare()


def test_types_that_json_cannot_give_are_refused_when_loaded() -> None:
    def impossible(a: dict[str, NoSuchType]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidHandler, match="NoSuchType"):
        Handler(impossible, TypePolicy("t")).prepare()


def test_a_raw_queue_gives_bytes_or_text() -> None:
    def as_bytes(message: bytes) -> Any:
        return message

    def as_text(job: Job, message: str) -> Any:
        return message, job

    def bare(message):  # type: ignore[no-untyped-def]
        return message

    assert Handler(as_bytes, TypePolicy("t")).run_raw(b"\xff") == b"\xff"
    assert Handler(as_text, TypePolicy("t")).run_raw(b"\xffa", JOB) == ("\ufffda", JOB)
    assert Handler(bare, TypePolicy("t")).run_raw(b"x") == b"x"

    def two(a: bytes, b: bytes) -> None: ...

    for wrong in (two, coroutine_free):
        with pytest.raises(PayloadMismatch, match="one argument"):
            Handler(wrong, TypePolicy("t")).run_raw(b"x")


def test_a_handler_without_arguments_costs_next_to_nothing() -> None:
    entry = Handler(coroutine_free, TypePolicy("t")).prepare()
    best = min(timeit.repeat(lambda: entry.run(b"{}"), number=2000, repeat=20)) / 2000
    assert best < 3e-6, "meant to be 0.4 µs; loose, for busy machines"


# ---------------------------------------------------------------- enqueueing


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    def enqueue(self, type: str, payload: dict[str, Any], /, **options: Any) -> str:  # noqa: A002
        self.calls.append((type, payload, options))
        return "handle"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    before = default.set_default(recorder)
    yield recorder
    default.set_default(before)


def test_a_handler_enqueues_itself_with_its_own_arguments(recorder: Recorder) -> None:
    @handler("mail", queue="mails")
    def mail(job: Job, user_id: int, text: str = "hi", **more: int) -> None: ...

    assert mail.enqueue(7) == "handle"  # type: ignore[comparison-overlap]
    mail.options(delay=10, unique="u").enqueue(user_id=1, text="x", extra=3)
    mail.options(queue="fast").enqueue(1)
    assert recorder.calls == [
        ("mail", {"user_id": 7}, {"queue": "mails"}),
        ("mail", {"user_id": 1, "text": "x", "extra": 3}, {"delay": 10, "unique": "u", "queue": "mails"}),
        ("mail", {"user_id": 1}, {"queue": "fast"}),
    ]


def test_wrong_arguments_are_refused_before_anything_is_sent(recorder: Recorder) -> None:
    @handler
    def mail(user_id: int) -> None: ...

    for arguments in ({}, {"user": 1}, {"user_id": 1, "x": 2}):
        with pytest.raises(TypeError):
            mail.enqueue(**arguments)  # type: ignore[arg-type]
    assert recorder.calls == []


def test_without_a_queue_the_error_says_what_to_do() -> None:
    before = default.set_default(None)
    try:
        with pytest.raises(NoDefaultQueue, match=r"'coroutine_free'.*JobQueue\(url\)"):
            handler(coroutine_free).enqueue()
    finally:
        default.set_default(before)


def test_the_first_queue_made_is_the_default() -> None:
    before = default.set_default(None)
    try:
        default.offer("first")
        default.offer("second")
        assert default.default_for("t") == "first"
    finally:
        default.set_default(before)


# ---------------------------------------------------------------- loading


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


HANDLER = "from jobqueue import handler\n@handler('{0}')\ndef {1}(): ...\n"


def test_modules_and_files_of_the_current_folder_are_loaded(project: Path) -> None:
    (project / "app").mkdir()
    (project / "app" / "jobs.py").write_text(HANDLER.format("one", "f"))
    (project / "more-jobs.py").write_text(HANDLER.format("two", "f"))
    (project / "plain.py").write_text(HANDLER.format("three", "f"))
    registry = load(["app.jobs", "more-jobs.py", "plain.py", str(project / "plain.py"), "app/jobs.py", "app.jobs"])
    assert sorted(registry.handlers) == ["one", "three", "two"]
    assert sys.modules["plain"].f.handler is registry.get("three"), "under its ordinary name, so it is there once"


def test_a_failed_import_names_its_entry_and_its_cause(project: Path) -> None:
    (project / "broken_jobs.py").write_text("import no_such_library\n")
    (project / "leaving_jobs.py").write_text("raise SystemExit(3)\n")
    (project / "twice_jobs.py").write_text(HANDLER.format("t", "f") + HANDLER.format("t", "g"))
    for name, cause in [
        ("broken_jobs", ModuleNotFoundError),
        ("broken_jobs.py", ModuleNotFoundError),
        ("leaving_jobs", SystemExit),
        ("no/such/file.py", FileNotFoundError),
        ("no_such_module", ModuleNotFoundError),
        ("twice_jobs", DuplicateType),
    ]:
        with pytest.raises(HandlersNotLoaded, match=name.replace(".", r"\.")) as failed:
            load([name])
        assert isinstance(failed.value.__cause__, cause)


def test_a_handler_that_cannot_be_called_is_found_when_loading(project: Path) -> None:
    (project / "star_jobs.py").write_text("from jobqueue import handler\n@handler\ndef f(*a): ...\n")
    with pytest.raises(InvalidHandler, match=r"star_jobs\.f"):
        load(["star_jobs"])


def test_annotations_may_name_what_is_defined_below(project: Path) -> None:
    source = "from jobqueue import handler\n@handler\ndef f(a: 'Late'): return a\nclass Late(dict): ...\nLate = dict[str, int]\n"
    (project / "late_jobs.py").write_text(source)
    assert load(["late_jobs"]).handlers["f"].run(b'{"a":{"x":1}}') == {"x": 1}


# ---------------------------------------------------------------- the package


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import jobqueue; print(*sorted(set(sys.modules) - before))"
    assert _python(code) == "jobqueue"


def test_every_public_name_is_there_and_listed() -> None:
    code = "import jobqueue; [getattr(jobqueue, n) for n in jobqueue.__all__]; print(set(jobqueue.__all__) <= set(dir(jobqueue)))"
    assert _python(code) == "True"
    with pytest.raises(AttributeError, match="no_such_name"):
        import jobqueue

        jobqueue.no_such_name  # noqa: B018


def test_handlers_cost_no_client_and_no_redis() -> None:
    code = "import sys, jobqueue.demo; print([m for m in ('redis', 'jobqueue.client', 'asyncio') if m in sys.modules])"
    assert _python(code) == "[]"


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
