"""Structs made from JSON Schemas: never laxer than the schema, whatever the values."""

from typing import Any

import hypothesis
import jsonschema
import msgspec
import pytest
from hypothesis import strategies as st

from mesh.errors import SettingsError
from mesh.mounts.schema import make_arguments
from mesh.tools import Tool, ToolCall


def tool(schema: dict[str, Any]) -> Tool:
    """A tool that takes what the schema says."""

    async def run(args: msgspec.Struct, call: ToolCall) -> msgspec.Struct:
        return args

    made = make_arguments("x.y", schema)
    return Tool(name="x.y", args=made.type, check=made.check, run=run)


def takes(schema: dict[str, Any], value: Any) -> bool:
    """Whether the tool takes a value, and gives it on as it was."""
    try:
        parsed = tool(schema).parse(msgspec.Raw(msgspec.json.encode(value)))
    except msgspec.ValidationError:
        return False
    assert msgspec.to_builtins(parsed) == value
    return True


def one(schema: Any, *, required: bool = True) -> dict[str, Any]:
    """The schema of one argument, ``a``."""
    return {"type": "object", "properties": {"a": schema}, "required": ["a"] if required else []}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-z]+$"}, ["ab"], ["", "abcd", "A", 5, None]),
        ({"type": "integer", "minimum": 1, "maximum": 5}, [1, 5], [0, 6, 1.5, "1", True]),
        ({"type": "number", "exclusiveMinimum": 0}, [1, 0.5], [0, -1, "1"]),
        ({"type": "integer", "multipleOf": 5}, [10], [11]),
        ({"type": "boolean"}, [True], [0, "true"]),
        ({"type": ["string", "null"]}, ["a", None], [5]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [5, None], ["a"]),
        ({"enum": ["red", "green"]}, ["red"], ["blue", 5]),
        ({"enum": ["a", 1, None]}, ["a", 1, None], [2, "b"]),
        ({"enum": [1.5, "a"]}, [1.5, "a"], [2, "b"]),  # no Literal: checked beside the struct
        ({"const": "x"}, ["x"], ["y"]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [[1]], [[], [1, 2, 3], ["a"]]),
        ({"type": "array", "uniqueItems": True}, [[1, 2]], [[1, 1]]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"x": 1}], [{"x": "1"}, 5]),
        ({"type": "object", "properties": {"b": {"type": "string"}}}, [{}, {"b": "x"}], [{"b": 1}, {"c": 1}]),
        ({"oneOf": [{"type": "string"}, {"type": "integer", "minimum": 3}]}, ["a", 3], [2, 1.5]),
        ({"not": {"type": "string"}}, [5], ["a"]),
        ({"$ref": "#/$defs/node"}, [{"next": {"next": {}}}], [{"next": 5}, {"next": {"next": 5}}]),
        ({"type": "string", "format": "date"}, ["x"], [5]),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_an_argument_is_held_against_its_schema(schema: Any, good: list[Any], bad: list[Any], required: bool) -> None:
    whole = one(schema, required=required)
    whole["$defs"] = {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}
    assert [value for value in good if not takes(whole, {"a": value})] == []
    assert [value for value in bad if takes(whole, {"a": value})] == []
    assert takes(whole, {}) is not required
    assert not takes(whole, {**({"a": good[0]}), "more": 1})


def test_names_that_python_does_not_know_are_arguments_too() -> None:
    properties = {name: {"type": "integer"} for name in ("from", "x-y", "1st", "__class__", "self", "field_0", "ü")}
    whole = {"type": "object", "properties": properties, "required": list(properties)}
    assert takes(whole, dict.fromkeys(properties, 1))
    fields = {field.encode_name for field in msgspec.structs.fields(tool(whole).args)}
    assert fields == properties.keys()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "required": ["b"]},
        one({"type": "strange"}),
        one({"type": "string", "pattern": "("}),
        one({"type": "string", "minLength": -1}),
        one({"$ref": "https://evil.example/schema.json"}),
        one({"$ref": "other.json#/a"}),
        one({"$ref": "#/$defs/none"}),
    ],
)
def test_what_is_no_schema_of_arguments_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"x\.y"):
        tool(schema)


_PLAIN = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab", max_size=3)
_VALUES = st.recursive(_PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from("ab"), each))
_KINDS = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])


@st.composite
def _schemas(draw: st.DrawFn, deep: int = 2) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kind = draw(_KINDS)
    if draw(st.booleans()) or kind in ("array", "object"):
        found["type"] = kind
    bounds: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "string": {
            "minLength": st.integers(0, 3),
            "maxLength": st.integers(0, 3),
            "pattern": st.sampled_from(["^a", "b$"]),
        },
        "integer": {
            "minimum": st.integers(-3, 3),
            "exclusiveMaximum": st.integers(-3, 3),
            "multipleOf": st.integers(1, 3),
        },
        "number": {"minimum": st.floats(-3, 3), "maximum": st.integers(-3, 3), "multipleOf": st.just(0.5)},
        "array": {"minItems": st.integers(0, 2), "maxItems": st.integers(0, 2), "uniqueItems": st.booleans()},
    }
    for name, values in bounds.get(kind, {}).items():
        if draw(st.integers(0, 2)) == 0:
            found[name] = draw(values)
    if deep and kind == "array":
        found["items"] = draw(_schemas(deep - 1))
    if deep and kind == "object":
        found["properties"] = draw(st.dictionaries(st.sampled_from("ab"), _schemas(deep - 1)))
        found["required"] = [name for name in found["properties"] if draw(st.booleans())]
        if draw(st.booleans()):
            found["additionalProperties"] = draw(st.booleans() | _schemas(0))
    if draw(st.integers(0, 5)) == 0:
        found["enum"] = draw(st.lists(_PLAIN, min_size=1, max_size=3))
    return found


@hypothesis.given(_schemas(), _VALUES)
@hypothesis.settings(max_examples=120)
def test_what_the_tool_takes_the_schema_takes(schema: dict[str, Any], value: Any) -> None:
    whole = one(schema)
    try:
        taken = takes(whole, {"a": value})
    except SettingsError:
        return
    if taken:
        jsonschema.validate({"a": value}, whole)
