"""Argument structs made from JSON Schemas (2020-12), with their bounds.

The rule: never laxer than the schema. What msgspec can say is in the struct; for the rest the schema is checked too.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, Union, cast

import msgspec
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from mesh.errors import SettingsError
from mesh.records import Json

Schema = Mapping[str, Any]
Check = Callable[[Json], None]

_NOTES = {"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "format"}
_NOTES |= {"$schema", "$id", "$comment", "$defs", "definitions", "components", "type", "externalDocs", "xml"}
_BOUNDS = {
    "string": {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"},
    "number": {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"},
    "array": {"minItems": "min_length", "maxItems": "max_length"},
}
_BOUNDS["integer"] = _BOUNDS["number"] | {"multipleOf": "multiple_of"}
_SAID = 300
_DEEP = 12


@dataclass(frozen=True, slots=True)
class Arguments:
    """A struct type for arguments, and what checks them beside it; ``None`` when the struct says it all."""

    type: type[msgspec.Struct]
    check: Check | None


def make_arguments(name: str, schema: Schema, *, without: str = "") -> Arguments:
    """The arguments of tool ``name``, an object's schema; ``without`` is one that the mount fills in itself.

    Raises ``SettingsError`` for what is no schema, or refers to something outside of it.
    """
    _validator(name, schema)  # also where the struct says it all: a broken schema is refused as one
    schema = _without(schema, without)
    maker = _Maker(name, schema)
    made = maker.top(schema)
    try:
        msgspec.json.Decoder(made)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the schema of {name} cannot be applied: {error}") from error
    return Arguments(made, None if maker.exact else _check(name, schema))


def _without(schema: Schema, name: str) -> Schema:
    if not name:
        return schema
    properties = {key: value for key, value in schema.get("properties", {}).items() if key != name}
    return {**schema, "properties": properties, "required": [key for key in schema.get("required", []) if key != name]}


def _validator(name: str, schema: Schema) -> Any:
    try:
        kind = validator_for(cast(Any, schema), default=Draft202012Validator)
        kind.check_schema(cast(Any, schema))
    except SchemaError as error:
        raise SettingsError(f"the schema of {name} is no JSON Schema: {error.message[:_SAID]}") from error
    return kind(cast(Any, schema), registry=Registry())  # an empty registry: nothing is fetched


def _check(name: str, schema: Schema) -> Check:
    validator = _validator(name, schema)

    def check(args: Json) -> None:
        try:
            error = best_match(validator.iter_errors(msgspec.json.decode(args)))
        except (Unresolvable, re.error) as broken:
            raise msgspec.ValidationError(f"the schema of {name} cannot be applied: {broken}") from broken
        if error is not None:
            raise msgspec.ValidationError(f"{error.message[:_SAID]} - at `{error.json_path}`")

    return check


@dataclass(slots=True)
class _Maker:
    """Makes types of one schema; ``exact`` ends false when they are laxer than it."""

    name: str
    root: Schema
    exact: bool = True
    open: list[str] = field(default_factory=list)

    def top(self, schema: Schema) -> type[msgspec.Struct]:
        """The struct of the whole."""
        if schema.get("type", "object") != "object":
            raise SettingsError(f"the schema of {self.name} is not that of an object")
        self._only(schema, "properties", "required", "additionalProperties")
        return self._struct(schema)

    def of(self, schema: Any) -> Any:
        """The type of a value; ``Any`` where msgspec cannot say it."""
        if schema is True or schema == {}:
            return Any
        if not isinstance(schema, Mapping) or len(self.open) > _DEEP:
            return self._lax()
        if "$ref" in schema:
            return self._referenced(schema)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._either(schema, key)
        if "const" in schema or "enum" in schema:
            self._only(schema, "const", "enum")
            chosen = [schema["const"]] if "const" in schema else schema["enum"]
            if "type" in schema and not all(map(Draft202012Validator({"type": schema["type"]}).is_valid, chosen)):
                return self._lax()  # a choice that its own type rules out
            return self._literal(chosen)
        match schema.get("type"):
            case [str() as one, "null"] | ["null", str() as one]:
                return Optional[self.of({**schema, "type": one})]  # noqa: UP045 - not known before it runs
            case str() as kind:
                return self._typed(kind, schema)
            case _:
                self._only(schema)
                return self._lax() if "type" in schema else Any

    def _typed(self, kind: str, schema: Schema) -> Any:
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                self._only(schema, "items", *_BOUNDS["array"])
                return self._bounded(list[self.of(schema.get("items", True))], schema, "array")  # type: ignore[misc]
            case "string" | "integer":
                self._only(schema, *_BOUNDS[kind])
                return self._bounded(str if kind == "string" else int, schema, kind)
            case "number":
                self._only(schema, *_BOUNDS[kind])
                return Union[self._bounded(int, schema, kind), self._bounded(float, schema, kind)]  # noqa: UP007
            case "boolean" | "null":
                self._only(schema)
                return bool if kind == "boolean" else None
            case _:
                raise SettingsError(f"the schema of {self.name} has an unknown type {kind!r}")

    def _object(self, schema: Schema) -> Any:
        more = schema.get("additionalProperties", True)
        if schema.get("properties") and more in (True, False):
            self._only(schema, "properties", "required", "additionalProperties")
            return self._struct(schema)
        self._only(schema, "additionalProperties")
        return dict[str, self.of(more)]  # type: ignore[misc]

    def _struct(self, schema: Schema) -> type[msgspec.Struct]:
        properties, required = schema.get("properties", {}), set(schema.get("required", ()))
        if missing := required - properties.keys():
            raise SettingsError(
                f"the schema of {self.name} requires {', '.join(sorted(missing))}, and does not say what it is"
            )
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        names: dict[str, str] = {}
        for n, (key, value) in enumerate(properties.items()):
            own = f"argument_{n}"  # its name in JSON may be none in Python
            names[own] = key
            kind = self.of(value)
            if key in required:
                fields.append((own, kind))
            else:
                fields.append((own, Union[kind, msgspec.UnsetType], msgspec.UNSET))  # noqa: UP007
        title = re.sub(r"\W", "_", self.name)
        options: dict[str, Any] = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True, "rename": names}
        return msgspec.defstruct(f"args_{title}", fields, **options)

    def _referenced(self, schema: Schema) -> Any:
        reference = schema["$ref"]
        self._only(schema, "$ref")
        if reference in self.open:
            return self._lax()  # it contains itself
        self.open.append(reference)
        try:
            return self.of(resolve(reference, self.root, self.name))
        finally:
            self.open.pop()

    def _either(self, schema: Schema, key: str) -> Any:
        self._only(schema, key)
        others = [each for each in schema[key] if each != {"type": "null"}]
        if len(others) == 1 and len(schema[key]) == 2:
            return Optional[self.of(others[0])]  # noqa: UP045
        return self._lax()

    def _literal(self, values: Any) -> Any:
        plain = [value for value in values if isinstance(value, str) or type(value) is int or value is None]
        if len(plain) != len(values) or not values:
            return self._lax()
        return Literal[tuple(values)]

    def _bounded(self, kind: Any, schema: Schema, name: str) -> Any:
        bounds: dict[str, Any] = {}
        for key, ours in _BOUNDS[name].items():
            value = schema.get(key)
            if value is None:
                continue
            if kind is int and isinstance(value, float):
                self.exact = False  # msgspec bounds an integer by integers
                continue
            bounds[ours] = value
        if not bounds:
            return kind
        try:
            if "pattern" in bounds:
                re.compile(bounds["pattern"])
            return Annotated[kind, msgspec.Meta(**bounds)]
        except (TypeError, ValueError, re.error) as error:
            raise SettingsError(f"the schema of {self.name} has a bound that cannot be applied: {error}") from error

    def _only(self, schema: Schema, *known: str) -> None:
        if schema.keys() - _NOTES - set(known):
            self.exact = False

    def _lax(self) -> Any:
        self.exact = False
        return Any


def resolve(reference: Any, root: Schema, name: str) -> Any:
    """What a local reference (a JSON pointer behind ``#``) points at; raises ``SettingsError``, also for others."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SettingsError(f"{name} has the reference {reference!r}: only references within the document are followed")
    found: Any = root
    for part in reference.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise SettingsError(f"{name} has the reference {reference!r}, which points at nothing") from error
    return found
