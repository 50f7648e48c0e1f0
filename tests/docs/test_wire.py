"""The vectors and the schema in docs/wire say what the code does: programs in other languages are written from them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from jobqueue import codec
from jobqueue.job import Envelope, ErrorInfo
from tests.docs.story import ROOT

VECTORS = json.loads((ROOT / "docs/wire/vectors.json").read_text())
SCHEMA = json.loads((ROOT / "docs/wire/envelope.schema.json").read_text())


def element(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["element"].encode()


def conforms(value: Any, schema: dict[str, Any]) -> bool:
    """The few words of JSON Schema that ours uses; an unknown one is an error, so that it cannot be silently ignored."""
    known = {
        "$schema",
        "$defs",
        "title",
        "description",
        "default",
        "type",
        "required",
        "properties",
        "additionalProperties",
    }
    known |= {"minimum", "maximum", "exclusiveMinimum", "anyOf", "$ref", "items", "const"}
    assert known >= schema.keys(), schema.keys() - known
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return any(conforms(value, one) for one in schema["anyOf"])
    types = {"object": dict, "string": str, "array": list, "integer": int, "number": (int, float), "null": type(None)}
    if "type" in schema and (not isinstance(value, types[schema["type"]]) or isinstance(value, bool)):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and value > schema.get("exclusiveMinimum", value - 1)
    ):
        return False
    if isinstance(value, list):
        return all(conforms(item, schema.get("items", {})) for item in value)
    if isinstance(value, dict):
        known_fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        return set(schema.get("required", ())) <= value.keys() and all(
            conforms(item, known_fields.get(key, others)) for key, item in value.items()
        )
    return True


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["name"])
def test_a_vector_is_read_as_it_says(vector: dict[str, Any]) -> None:
    if not vector["valid"]:
        with pytest.raises(codec.Malformed):
            codec.decode(element(vector))
        return
    envelope = codec.decode(element(vector))
    assert {name: getattr(envelope, name) for name in vector["fields"]} == vector["fields"]
    assert codec.newer(envelope) == vector.get("newer", False)
    if "payload" in vector:
        assert bytes(envelope.payload).decode() == vector["payload"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["name"])
def test_the_schema_agrees_with_the_vector(vector: dict[str, Any]) -> None:
    try:
        value = json.loads(element(vector))
    except ValueError:
        assert not vector["valid"]
        return
    assert conforms(value, SCHEMA) == (vector["valid"] and not vector.get("newer", False))


@pytest.mark.parametrize("vector", VECTORS["wrapped"], ids=lambda v: v["name"])
def test_wrapped_bytes_are_read_as_it_says(vector: dict[str, Any]) -> None:
    envelope = codec.decode(element(vector), raw_type=vector["raw_type"])
    assert {name: getattr(envelope, name) for name in vector["fields"]} == vector["fields"]
    assert codec.body(element(vector)).decode() == vector["body"]


def test_the_schema_has_every_field_and_no_other() -> None:
    assert set(SCHEMA["properties"]) == {field.name for field in msgspec.structs.fields(Envelope)}
    assert set(SCHEMA["$defs"]["error"]["properties"]) == {field.name for field in msgspec.structs.fields(ErrorInfo)}
