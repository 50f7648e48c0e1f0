"""`jqctl enqueue`: one job, many equal ones, or a file of them in bulk, in bounded memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import click
import msgspec

from jobqueue.errors import InvalidJob
from jobqueue.settings import settings_of
from supervisor.ctl.output import as_json, progress, safe, say
from supervisor.ctl.target import Target, pass_target, targeted


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a file: `{"type": …, "payload": …}` and options as of `JobQueue.enqueue`."""

    type: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    queue: str | None = None
    delay: float | str | None = None
    at: float | str | None = None
    unique: str | None = None
    max_attempts: int | None = None
    time_limit: float | str | None = None
    headers: dict[str, str] | None = None
    id: str | None = None
    expires: float | str | None = None


_line = msgspec.json.Decoder(Line).decode


@click.command()
@targeted
@click.argument("type_", metavar="[TYPE]", required=False)
@click.argument("payload_", metavar="[PAYLOAD]", required=False)
@click.option("--type", "type_option", metavar="TYPE", help="The same as the first argument.")
@click.option(
    "--payload", "payload_option", metavar="JSON", help="The same as the second argument; text for a raw queue."
)
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="That many equal jobs.")
@click.option(
    "--file", "file", type=click.File("rb"), metavar="FILE|-", help="One job a line, as JSON; text for a raw --queue."
)
@click.option("--queue", metavar="Q", help="Else the raw queue that TYPE handles, else 'default'.")
@click.option("--delay", metavar="10s", help="Not before that much time has passed.")
@click.option("--at", metavar="TIME", help="Not before then: ISO 8601, or seconds since 1970.")
@click.option("--unique", metavar="KEY", help="At most one live job holds this key.")
@click.option("--max-attempts", type=click.IntRange(min=1))
@click.option("--time-limit", metavar="30s")
@click.option("--id", "job_id", metavar="ID", help="The same id again within an hour changes nothing.")
@click.option("--expires", metavar="1h", help="Dropped if it has not started by then.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE")
@click.option("--block", type=float, metavar="SECONDS", help="Wait so long for room in a full queue.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@pass_target
def enqueue(
    target: Target,
    /,
    type_: str | None,
    payload_: str | None,
    type_option: str | None,
    payload_option: str | None,
    count: int,
    file: BinaryIO | None,
    queue: str | None,
    headers: tuple[str, ...],
    block: float | None,
    json_: bool,
    job_id: str | None,
    **options: Any,
) -> None:
    """Put jobs in and print their ids. PAYLOAD is JSON, or plain text for a raw queue.

    \b
    jqctl enqueue email:welcome '{"user_id": 42}' --delay 10s
    jqctl enqueue --file jobs.jsonl
    """
    options |= {"at": _moment(options["at"]), "id": job_id, "headers": _headers(headers)}
    told = {name: value for name, value in options.items() if value is not None}
    positional = [text for text in (type_, payload_) if text is not None]
    if type_option is not None:
        positional.insert(0, type_option)
    if payload_option is not None:
        positional.append(payload_option)
    if file is not None:
        if told or count > 1 or len(positional) > 1 or (positional and type_option is None):
            raise click.UsageError(
                "With --file, options belong into its lines; only --type, --queue and --block go with it."
            )
        _from_file(target, file, type_option, queue, block, json_)
        return
    type_, payload = _type_and_payload(target, positional, queue)
    if count == 1:
        job = target.queue.enqueue(type_, payload, queue=queue, block=block, **told)
        _print(job.id, job.duplicate, json_)
        return
    items = ((type_, payload, told) if told else (type_, payload) for _ in range(count))
    with progress("enqueueing", count) as done:
        sent = 0
        for part in target.queue.enqueue_parts(items, queue=queue, block=block):
            sent += len(part)
            done(sent)
            for one in part.ids:
                _print(one, False, json_)


def _type_and_payload(target: Target, positional: list[str], queue: str | None) -> tuple[str, Any]:
    settings = settings_of(target.settings[1], queue) if queue is not None else None
    raw_handler = settings.handler if settings is not None and settings.codec == "raw" else None
    if raw_handler and len(positional) == 1 and positional[0] != raw_handler:
        return raw_handler, positional[0]
    if not 1 <= len(positional) <= 2:
        raise click.UsageError("Give a TYPE and, if it needs one, a PAYLOAD (both once).")
    type_ = positional[0]
    name = queue if queue is not None else target.queue.queue_of(type_)
    if settings_of(target.settings[1], name).codec == "raw":
        return type_, positional[1] if len(positional) == 2 else ""
    return type_, _json(positional[1]) if len(positional) == 2 else None


def _json(text: str) -> msgspec.Raw:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(
            f"PAYLOAD is not JSON: {error}. Quote it for the shell, as in '{{\"user_id\": 42}}'."
        ) from None
    return msgspec.Raw(text.encode())


def _moment(text: str | None) -> float | str | None:
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


def _headers(given: tuple[str, ...]) -> dict[str, str] | None:
    if any("=" not in header for header in given):
        raise click.UsageError("--header wants NAME=VALUE.")
    return {name: value for name, _, value in (header.partition("=") for header in given)} or None


def _from_file(
    target: Target, file: BinaryIO, type_: str | None, queue: str | None, block: float | None, json_: bool
) -> None:
    raw = queue is not None and settings_of(target.settings[1], queue).codec == "raw"
    handler = settings_of(target.settings[1], queue).handler if queue is not None else None
    lines = _raw_lines(file, type_ or handler or "") if raw else _json_lines(file, type_)
    size, sent, duplicates = _size(file), 0, 0
    with progress("bytes read", size) as done:
        for part in target.queue.enqueue_parts(lines, queue=queue, block=block):
            sent, duplicates = sent + len(part), duplicates + part.duplicates
            if size is not None:
                done(file.tell())
    if json_:
        as_json({"enqueued": sent - duplicates, "duplicates": duplicates})
    else:
        say(f"{sent - duplicates} jobs enqueued" + (f", {duplicates} were there already" if duplicates else ""))


def _raw_lines(file: BinaryIO, type_: str) -> Iterator[tuple[str, bytes]]:
    for line in file:
        if body := line.rstrip(b"\r\n"):
            yield type_, body


def _json_lines(file: BinaryIO, type_: str | None) -> Iterator[tuple[Any, ...]]:
    names = [name for name in Line.__struct_fields__ if name not in ("type", "payload")]
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            line = _line(text)
            if not (line.type or type_):
                raise ValueError("there is no `type`")
        except (ValueError, RecursionError) as error:
            # Raised inside the bulk call, so that it is told how many jobs before it are in.
            raise InvalidJob(
                f"line {number}: {error}", 'Write {"type": "email:welcome", "payload": {…}}, one a line'
            ) from None
        told = {name: value for name in names if (value := getattr(line, name)) is not None}
        yield (line.type or type_, line.payload, told) if told else (line.type or type_, line.payload)


def _size(file: BinaryIO) -> int | None:
    try:
        return os.fstat(file.fileno()).st_size if file.seekable() else None
    except (OSError, io.UnsupportedOperation):
        return None


def _print(job_id: str, duplicate: bool, json_: bool) -> None:
    if json_:
        as_json({"id": job_id, "duplicate": duplicate})
        return
    if job_id:
        click.echo(safe(job_id))
    else:
        say("enqueued (elements of a raw queue have no id)")
    if duplicate:
        say("it was there already")
