"""Which schemas can be strict: what the official client makes of any schema can be, and what it takes out cannot."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from anthropic import transform_schema

from mesh.scripted.strictness import complaint


class Part(msgspec.Struct):
    kind: Literal["a", "b"]
    many: Annotated[list[int], msgspec.Meta(min_length=2, max_length=5)]


class Whole(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern="^#W")]
    part: Part
    more: list[Part] | None = None
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] = 3


def schemas() -> list[dict[str, Any]]:
    return [msgspec.json.schema(kind) for kind in (Whole, Part)]


@pytest.mark.parametrize("schema", schemas(), ids=("whole", "part"))
def test_what_the_client_transforms_can_be_strict_and_what_it_was_before_cannot(schema: dict[str, Any]) -> None:
    assert complaint(transform_schema(schema)) == ""
    assert complaint(schema) != ""


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "properties": {}}, "$: For 'object' type, 'additionalProperties'"),
        ({"type": "string", "pattern": "^a"}, "'pattern' is not supported"),
        ({"type": "string", "format": "text"}, "format 'text'"),
        (
            {"type": "array", "items": {"type": "integer", "maximum": 3}},
            "$.items: For 'integer' type, property 'maximum'",
        ),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "'minItems' values"),
        ({"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]}, "$.anyOf.1"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "number", "multipleOf": 2}}}, "$.A"),
    ],
)
def test_the_complaint_names_the_place(schema: dict[str, Any], why: str) -> None:
    assert why in complaint(schema)
