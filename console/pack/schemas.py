"""The JSON Schema (2020-12) of each event type, made from its struct; text from outside is marked as such."""

from typing import Any

import msgspec

from mesh.pack import EventType, Pack

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TAINT = "x-workmesh-taint"
"""An annotation of a field that holds text from outside: its JSON pointer in the data."""


def event_schemas(pack: Pack) -> list[dict[str, Any]]:
    """The schema of the data of each event type of a pack."""
    return [event_schema(kind, pack.version) for kind in pack.events]


def event_schema(kind: EventType, version: str) -> dict[str, Any]:
    """The schema of the data of an event type. The ``$id`` is a name, and no address to fetch."""
    (top,), parts = msgspec.json.schema_components((kind.data,), ref_template="#/$defs/{name}")
    found: dict[str, Any] = {
        "$schema": DIALECT,
        "$id": f"urn:workmesh:event:{kind.name}:{version}",
        "title": kind.name,
        "description": " ".join((kind.data.__doc__ or "").split()) or kind.name,
        **top,
        "$defs": parts,
    }
    for pointer in kind.taint:
        _mark(found, found, pointer.split("/")[1:], pointer)
    plain: dict[str, Any] = portable(found)
    return plain


def portable(schema: Any) -> Any:
    """The schema with the end of a pattern as all languages write it: Python's own form is unknown elsewhere."""
    if isinstance(schema, list):
        return [portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.replace(r"\Z", "$") if name == "pattern" and isinstance(value, str) else portable(value)
        for name, value in schema.items()
    }


def file_name(schema: dict[str, Any]) -> str:
    """The file of a schema."""
    return f"{schema['title']}.schema.json"


def _mark(whole: dict[str, Any], at: Any, parts: list[str], pointer: str) -> None:
    """Mark what a pointer leads to; in a definition that several fields share it is marked for all of them."""
    if not isinstance(at, dict):
        return
    if not parts:
        at[TAINT] = sorted({*at.get(TAINT, ()), pointer})
        return
    if name := str(at.get("$ref", "")).removeprefix("#/$defs/"):
        _mark(whole, whole["$defs"][name], parts, pointer)
        return
    for choice in at.get("anyOf", ()):
        _mark(whole, choice, parts, pointer)
    name = parts[0].replace("~1", "/").replace("~0", "~")
    if name in at.get("properties", {}):
        _mark(whole, at["properties"][name], parts[1:], pointer)
    elif "additionalProperties" in at:
        _mark(whole, at["additionalProperties"], parts[1:], pointer)
    elif "items" in at:
        _mark(whole, at["items"], parts[1:], pointer)
