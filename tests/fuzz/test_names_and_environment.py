"""Odd names and numbers in the verbs, any text in the environment: an answer or an error of ours, never a stuck job or a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobqueue.errors import InvalidQueueName, ServerRefused
from jobqueue.outcome import Ack, Bury, Requeue, Retry
from jobqueue.port import Enqueued, NewJob, Settlement
from jobqueue.redis.connect import Endpoint
from jobqueue.redis.queue import RedisQueue
from jobqueue.redis.wire import Wire
from jobqueue.yamlfile import ConfigError
from supervisor import settings
from tests.support.servers import Server

pytestmark = pytest.mark.timeout(240)
FUZZ = hypothesis_settings(
    max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
name = unicode_text | st.sampled_from(
    ["", "{", "a}b", "*", "q:pending", "next", ":", "\r\n", "w:bar", "w:was", "é\u0000"]
)
delays = st.integers(0, 10 * 365 * 86_400_000)
disposition = st.one_of(
    st.just(Ack()), st.builds(Ack, st.sampled_from(["discarded", "expired"])), st.builds(Retry, delays, st.binary(min_size=1, max_size=9)),
    st.builds(Bury, st.binary(max_size=9)), st.just(Requeue()), st.builds(Requeue, st.binary(min_size=1, max_size=9)),
)  # fmt: skip


@pytest.fixture(scope="module")
def port(_embedded: Server) -> Iterator[RedisQueue]:
    wire = Wire(Endpoint(path=_embedded.socket_path), "fuzz", 10.0)
    yield RedisQueue(wire, "jq", {}, (7, 0, 0))
    wire.close()


@FUZZ
@given(name, name, st.binary(max_size=30), unicode_text, disposition)
def test_any_names_make_the_round(
    port: RedisQueue, queue: str, worker: str, element: bytes, unique: str, end: object
) -> None:
    """In, claimed, settled, retired: under any names the job is in exactly one place afterwards, and no registration is left."""
    port.transport.call("FLUSHDB")
    try:
        (answer,) = port.enqueue([NewJob(queue, "id", element, unique=unique)])
    except InvalidQueueName:
        assert not queue or set("{}") & set(queue)
        return
    assert isinstance(answer, Enqueued)
    try:
        port.join(worker, [queue], 1000)
    except ServerRefused:
        return
    claim = port.settle(worker, 1, 0, queue, [], 0, [queue], 5, True)
    assert list(claim.jobs) == [element]
    port.settle(worker, 2, 1, queue, [Settlement(end, element, "id", unique)], 0, [queue], 0, True)  # type: ignore[arg-type]
    assert port.retire(worker, [queue])
    k = port.keys(queue)
    places = [
        port.transport.call("LLEN", k.pending),
        port.transport.call("ZCARD", k.scheduled),
        port.transport.call("ZCARD", k.dead),
    ]
    assert sum(places) == (0 if isinstance(end, Ack) else 1)
    assert port.transport.call("EXISTS", k.processing(worker), k.leases, k.workers, k.next) == 0
    assert port.transport.call("EXISTS", k.unique(unique)) == int(bool(unique) and not isinstance(end, (Ack, Bury)))


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["REDIS_URL", "JQ_REDIS_ADDR", "JQ_CONCURRENCY", "JQ_METRICS_ADDR", "TOKEN"]),
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
        | st.sampled_from(
            ["redis://", "redis://h:99999999/9", "unix://", "-1", "auto", "9" * 400, "[::1", "${TOKEN}", "embedded:"]
        ),
    )
)
def test_any_environment_is_settings_or_a_list_of_faults(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "jqd.yaml"
    path.write_text("handlers: [jobqueue.demo]\npools: [{name: a, queues: [q]}]\nhttp: {token: '${TOKEN:-}'}\n")
    try:
        found = settings.load(str(path), environ=environ)
    except ConfigError as error:
        assert str(error)
    else:
        assert settings.decode(settings.encode(found)) == found
