"""From a payload to a call: a handler's signature, compiled once into a msgspec decoder.

Not here: which handler runs what (`jobqueue.registry`) and what a misfit leads to (`jobqueue.execute`). A payload is a
JSON object whose keys are the handler's arguments; a raw queue's body is its one argument. A parameter annotated `Job`
is filled by the worker.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from jobqueue.errors import JobQueueError
from jobqueue.job import Job

Call: TypeAlias = Callable[[bytes | msgspec.Raw, Job | None], object]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class InvalidHandler(JobQueueError):
    """A function that cannot be a handler."""

    def __init__(self, name: str, what: str, cure: str) -> None:
        self.name, self.what, self.cure = name, what, cure
        super().__init__(f"{name} cannot be a handler: {what}. {cure}.")


class PayloadMismatch(JobQueueError):
    """A payload does not fit the handler's signature; trying again cannot help."""

    def __init__(self, type_: str, reason: str) -> None:
        self.type, self.reason = type_, reason
        super().__init__(f"payload of {type_!r} does not fit its handler: {reason}")


def signature(function: Callable[..., object], name: str) -> list[inspect.Parameter]:
    """The parameters of `function` with their annotations resolved. Raises InvalidHandler."""
    parameters = list(inspect.signature(function).parameters.values())
    inner = inspect.unwrap(function)
    if not inspect.isfunction(inner) and not inspect.ismethod(inner):
        inner = type(inner).__call__ if not inspect.isclass(inner) else inner.__init__
    try:
        try:
            hints = typing.get_type_hints(inner, include_extras=True)
        except NameError:  # Job is often imported under TYPE_CHECKING alone
            hints = typing.get_type_hints(inner, localns={"Job": Job}, include_extras=True)
    except Exception as error:
        raise InvalidHandler(
            name, f"its annotations cannot be resolved: {error}", "Import those names at run time"
        ) from error
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise InvalidHandler(name, f"it takes *{parameter.name}", "Arguments come from a JSON object: name them")
    return [parameter.replace(annotation=hints.get(parameter.name, Any)) for parameter in parameters]


def is_job(parameter: inspect.Parameter) -> bool:
    """Whether this parameter asks for the Job itself (annotated `Job` or `Job | None`)."""
    annotation = parameter.annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return set(typing.get_args(annotation)) == {Job, type(None)}
    return annotation is Job


def compile_json(function: Callable[..., object], type_: str, parameters: list[inspect.Parameter]) -> Call:
    """A call that decodes a JSON object straight into the arguments. The call raises PayloadMismatch, or what the
    handler raises.
    """
    wanted = [p for p in parameters if not is_job(p) and p.kind is not p.VAR_KEYWORD]
    rest = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
    job_name = next((p.name for p in parameters if is_job(p)), None)
    try:
        decode = msgspec.json.Decoder(_struct(type_, wanted, forbid=rest is None)).decode
    except Exception as error:
        raise InvalidHandler(
            type_, f"its annotations cannot be decoded from JSON: {error}", "Use types msgspec knows"
        ) from error
    if not wanted and rest is None and job_name is None:
        return _compile_bare(function, type_, decode)
    extras = _extras(rest, frozenset(p.name for p in parameters)) if rest is not None else None
    # Arguments go by position as far as the Job's place allows, by name from there on.
    ahead = 0
    for parameter in parameters:
        if parameter.kind not in _POSITIONAL or is_job(parameter):
            break
        ahead += 1
    names = tuple(p.name for p in wanted[ahead:])
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters[ahead:]):
        raise InvalidHandler(
            type_, "it takes arguments by position behind the Job", "Remove the '/' from its signature"
        )
    astuple = msgspec.structs.astuple

    def call(payload: bytes | msgspec.Raw, job: Job | None) -> object:
        try:
            values = astuple(decode(payload))
            keywords = dict(zip(names, values[ahead:], strict=True)) if names else {}
            if extras is not None:
                keywords.update(extras(payload))
        except (ValueError, RecursionError, TypeError, OverflowError) as error:
            raise PayloadMismatch(type_, _explain(error, wanted)) from None
        if job_name is not None:
            keywords[job_name] = job
        return function(*values[:ahead], **keywords)

    return call


def compile_raw(function: Callable[..., object], type_: str, parameters: list[inspect.Parameter]) -> Call:
    """A call that passes a raw queue's bytes on as the one argument; as text if that is annotated `str`."""
    wanted = [p for p in parameters if not is_job(p)]
    job_name = next((p.name for p in parameters if is_job(p)), None)
    required = [p for p in wanted if p.default is p.empty]
    if (
        not wanted
        or len(required) > 1
        or wanted[0].kind not in _POSITIONAL
        or (required and required[0] is not wanted[0])
    ):
        reason = (
            f"a raw queue gives its handler one argument, the bytes; this one takes ({', '.join(map(str, parameters))})"
        )

        def refuse(_payload: bytes | msgspec.Raw, _job: Job | None) -> object:
            raise PayloadMismatch(type_, reason)

        return refuse
    as_text, name = wanted[0].annotation is str, wanted[0].name
    by_name = wanted[0].kind is not inspect.Parameter.POSITIONAL_ONLY

    def call(payload: bytes | msgspec.Raw, job: Job | None) -> object:
        body: bytes | str = bytes(payload)
        if as_text:
            body = bytes(payload).decode("utf-8", errors="replace")
        keywords: dict[str, object] = {} if job_name is None else {job_name: job}
        return function(**{name: body}, **keywords) if by_name else function(body, **keywords)

    return call


def _compile_bare(function: Callable[..., object], type_: str, decode: Callable[[bytes | msgspec.Raw], object]) -> Call:
    def call(payload: bytes | msgspec.Raw, _job: Job | None) -> object:
        try:
            decode(payload)
        except (ValueError, RecursionError) as error:
            raise PayloadMismatch(type_, _explain(error, [])) from None
        return function()

    return call


def _struct(type_: str, parameters: list[inspect.Parameter], *, forbid: bool) -> type[msgspec.Struct]:
    """One field a parameter. Fields have names of their own, so that no parameter's name can clash with a Struct's."""
    fields: list[tuple[str, Any, Any]] = []
    for number, parameter in enumerate(parameters):
        default = parameter.default
        options: dict[str, Any] = (
            {} if default is parameter.empty else {"default_factory": lambda default=default: default}
        )
        fields.append((f"a{number}", parameter.annotation, msgspec.field(name=parameter.name, **options)))
    return msgspec.defstruct(f"Arguments of {type_}", fields, kw_only=True, forbid_unknown_fields=forbid, gc=False)


def _extras(rest: inspect.Parameter, known: frozenset[str]) -> Callable[[bytes | msgspec.Raw], dict[str, object]]:
    split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    decode = msgspec.json.Decoder(rest.annotation).decode

    def extras(payload: bytes | msgspec.Raw) -> dict[str, object]:
        values = {}
        for name, value in split(payload).items():
            if name not in known:
                try:
                    values[name] = decode(value)
                except msgspec.ValidationError as error:
                    raise msgspec.ValidationError(f"{error} - at `$.{name}`") from None
        return values

    return extras


_EXPECTED = re.compile(r"(?P<what>.*) - at `\$\.(?P<name>[^.\[`]+)(?P<rest>[^`]*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`$", re.DOTALL)


def _explain(error: Exception, parameters: list[inspect.Parameter]) -> str:
    """msgspec's message in the words of whoever wrote the handler: argument, expected, found."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    if match := _EXPECTED.match(text):
        where = f" (at {match['name']}{match['rest']})" if match["rest"] else ""
        return f"argument {match['name']!r}: {_plain(match['what'])}{where}"
    if match := _MISSING.match(text):
        return f"argument {match['name']!r} is missing"
    if match := _UNKNOWN.match(text):
        takes = ", ".join(p.name for p in parameters) or "none"
        return f"argument {match['name']!r} is not one of the handler's ({takes})"
    if text.startswith("Expected `object`"):
        return f"{_plain(text)}: arguments come as a JSON object"
    return _plain(text)


def _plain(text: str) -> str:
    return text[:1].lower() + text[1:].replace("`", "")
