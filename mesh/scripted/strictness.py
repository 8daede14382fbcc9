"""Which JSON Schemas a provider takes for a strict tool.

The rule is that of the official client (anthropic 2.12, ``lib/_parse/_transform.py``): what its transformation would
have to take out (``default`` aside) is refused here, so that a test finds it before the provider does.
"""

from collections.abc import Mapping
from typing import Any

_ANYWHERE = {"type", "title", "description", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "default"}
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format"},
}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}


def complaint(schema: Mapping[str, Any], place: str = "$") -> str:
    """Why a schema cannot be strict, naming the place; nothing when it can."""
    kind = schema.get("type")
    for keyword in schema:
        if keyword not in _ANYWHERE | _OF_TYPE.get(str(kind), set()):
            return f"{place}: For '{kind}' type, property '{keyword}' is not supported"
    if kind == "object" and schema.get("additionalProperties") is not False:
        return f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false"
    if kind == "string" and schema.get("format", "date") not in _FORMATS:
        return f"{place}: String format {schema['format']!r} is not supported"
    if kind == "array" and schema.get("minItems", 0) not in (0, 1):
        return f"{place}: For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    for name, part in _parts(schema):
        if isinstance(part, Mapping) and (why := complaint(part, f"{place}.{name}")):
            return why
    return ""


def _parts(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    parts = [(name, part) for key in ("properties", "$defs") for name, part in schema.get(key, {}).items()]
    parts += [
        (f"{key}.{number}", part) for key in ("anyOf", "allOf") for number, part in enumerate(schema.get(key, ()))
    ]
    return [*parts, ("items", schema["items"])] if "items" in schema else parts
