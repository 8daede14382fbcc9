"""What an OpenAPI document says of an operation: where it is, what it takes, and the schema of its arguments.

The rule: references are followed within the document only; what is not understood is refused, not guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mesh.errors import SettingsError
from mesh.mounts.schema import resolve

_METHODS = ("get", "head", "post", "put", "patch", "delete")
_STYLES = {"path": "simple", "query": "form", "header": "simple"}
_BODY = "body"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, where it goes, and its schema."""

    name: str
    place: str
    required: bool
    schema: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: method, path with ``{name}`` parts, parameters, and the schema of its JSON body, if any."""

    id: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    body: Any = None
    body_required: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Names of its parameters."""
        return frozenset(each.name for each in self.parameters)

    def target(self, args: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, str], ...], dict[str, str]]:
        """Path, query and headers for these arguments. A value is one part of a path, whatever is in it."""
        path, query, headers = self.path, list[tuple[str, str]](), dict[str, str]()
        for each in self.parameters:
            if each.name not in args:
                continue
            value = args[each.name]
            if each.place == "path":
                path = path.replace("{" + each.name + "}", quote(_text(value), safe=""))
            elif each.place == "query":
                values = value if isinstance(value, list) else [value]
                query += [(each.name, _text(one)) for one in values]
            else:
                headers[each.name] = _text(value)
        return path, tuple(query), headers


def find_operation(document: Mapping[str, Any], wanted: str) -> Operation:
    """The operation with this operationId; raises ``SettingsError`` when there is not one that is understood."""
    found = [
        (path, method, item, item[method])
        for path, item in document.get("paths", {}).items()
        for method in _METHODS
        if isinstance(item, dict) and isinstance(item.get(method), dict) and item[method].get("operationId") == wanted
    ]
    if len(found) != 1:
        raise SettingsError(f"the document has {len(found)} operations with the id {wanted}")
    path, method, item, operation = found[0]
    parameters: dict[tuple[str, str], Parameter] = {}
    for raw in (*item.get("parameters", ()), *operation.get("parameters", ())):
        parameter = _parameter(_resolved(raw, document, wanted), wanted)
        parameters[(parameter.place, parameter.name)] = parameter
    own = tuple(parameters.values())
    if len({each.name for each in own} | {_BODY}) != len(own) + 1:
        raise SettingsError(f"{wanted} has two arguments of one name")
    missing = [part for part in _parts(path) if part not in {each.name for each in own if each.place == "path"}]
    if missing:
        raise SettingsError(f"{wanted} does not say what {', '.join(missing)} of its path is")
    body, needed = _body(operation, document, wanted)
    return Operation(wanted, method, path, own, body, needed)


def schema_of(operation: Operation, document: Mapping[str, Any], *, without_headers: set[str]) -> Mapping[str, Any]:
    """The JSON Schema of an operation's arguments; a body is the argument ``body``."""
    own = [
        each for each in operation.parameters if not (each.place == "header" and each.name.lower() in without_headers)
    ]
    properties = {each.name: each.schema for each in own}
    required = [each.name for each in own if each.required]
    if operation.body is not None:
        properties[_BODY] = operation.body
        required += [_BODY] if operation.body_required else []
    old = str(document.get("openapi", "")).startswith("3.0")
    return {
        "type": "object",
        "properties": modern(properties) if old else properties,
        "required": required,
        "components": modern(document.get("components", {})) if old else document.get("components", {}),
    }


def modern(value: Any) -> Any:
    """Schemas of OpenAPI 3.0 as those of 3.1: ``nullable`` and exclusive bounds are said otherwise there."""
    if isinstance(value, list):
        return [modern(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: modern(each) for key, each in value.items() if key != "nullable" or not isinstance(each, bool)}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if found.get(exclusive) is True and bound in found:
            found[exclusive] = found.pop(bound)
        elif isinstance(found.get(exclusive), bool):
            del found[exclusive]
    if value.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        if "enum" in found and None not in found["enum"]:
            found["enum"] = [*found["enum"], None]
    return found


def _parameter(raw: Mapping[str, Any], wanted: str) -> Parameter:
    name, place = raw.get("name"), raw.get("in")
    if not isinstance(name, str) or place not in _STYLES:
        raise SettingsError(f"{wanted} has a parameter {name!r} in {place!r}: path, query and header are understood")
    if raw.get("style", _STYLES[place]) != _STYLES[place] or "schema" not in raw:
        raise SettingsError(f"{wanted}: the parameter {name} is written in a way that is not understood")
    kind = raw["schema"].get("type") if isinstance(raw["schema"], dict) else None
    if kind == "object" or (kind == "array" and (place != "query" or raw.get("explode") is False)):
        raise SettingsError(f"{wanted}: the parameter {name} is no plain value")
    return Parameter(name, place, bool(raw.get("required", place == "path")), raw["schema"])


def _body(operation: Mapping[str, Any], document: Mapping[str, Any], wanted: str) -> tuple[Any, bool]:
    raw = operation.get("requestBody")
    if raw is None:
        return None, False
    body = _resolved(raw, document, wanted)
    content = body.get("content", {})
    kind = next((key for key in content if key.partition(";")[0].strip().lower() == "application/json"), None)
    if kind is None:
        raise SettingsError(f"{wanted} takes a body that is no JSON: {', '.join(content)}")
    return content[kind].get("schema", True), bool(body.get("required", False))


def _resolved(raw: Any, document: Mapping[str, Any], wanted: str) -> Mapping[str, Any]:
    for _ in range(10):
        if not isinstance(raw, dict):
            break
        if "$ref" not in raw:
            return raw
        raw = resolve(raw["$ref"], document, wanted)
    raise SettingsError(f"{wanted} refers to what is no object")


def _parts(path: str) -> list[str]:
    return [part.partition("}")[0] for part in path.split("{")[1:]]


def _text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return str(value)
