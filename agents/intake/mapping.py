"""Mapping files: YAML whose CEL expressions say which events are made of what came in, compiled once at start.

The rule: a file that is wrong is refused at start, by file and place; what no rule is meant for is never dropped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from agents.intake.errors import UnreadableError
from mesh.errors import SettingsError
from mesh.expressions import Expression, ExpressionError, Variables
from mesh.tools import Tool

Reads = Literal["json", "mail", "ubl", "rows"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_\-]{0,39}\Z")]

VARIABLES: Mapping[Reads, frozenset[str]] = {
    "json": frozenset({"body", "headers"}),
    "mail": frozenset({"mail"}),
    "ubl": frozenset({"document"}),
    "rows": frozenset({"row"}),
}
"""What the expressions of a mapping see of what came in, beside ``source``, ``key``, ``received`` and ``original``."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a mapping file."""


class LookupSource(_Part, frozen=True, kw_only=True):
    """A read-only tool that is asked before the event is made; expressions see its answer as ``found.<name>``."""

    tool: str
    args: dict[str, str] = {}


class RuleSource(_Part, frozen=True, kw_only=True):
    """What is made of an item where ``when`` holds and no rule before it did: an event, or nothing (``ignore``)."""

    name: Name
    when: str = "true"
    type: str = ""
    id: str = "key"
    source: str = '"intake/" + source'
    subject: str = '""'
    time: str = "null"
    lookup: dict[Name, LookupSource] = {}
    data: dict[str, Any] = {}
    ignore: str = ""

    def __post_init__(self) -> None:
        if bool(self.type) == bool(self.ignore):
            raise ValueError(f"rule {self.name}: give either a type or the reason to ignore it")


class MappingSource(_Part, frozen=True, kw_only=True):
    """A mapping file. ``each`` is a CEL expression of a list: every element is an ``item`` of its own.

    What is in ``lookup`` here is asked before the rules are tried, so that they can depend on it.
    """

    reads: Reads
    rules: Annotated[tuple[RuleSource, ...], msgspec.Meta(min_length=1, max_length=200)]
    signature: Literal["none", "github", "stripe", "standard"] = "none"
    each: str = ""
    lookup: dict[Name, LookupSource] = {}


@dataclass(frozen=True, slots=True)
class Lookup:
    """A compiled look-up."""

    name: str
    tool: str
    args: Mapping[str, Expression]


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule; ``ignore`` is the reason why nothing is made of what it is meant for."""

    name: str
    when: Expression
    type: str
    ignore: str
    attributes: Mapping[str, Expression]
    lookups: Sequence[Lookup]
    data: Any

    def event(self, variables: Variables) -> dict[str, Any]:
        """The attributes and data of the event, as plain values; raises ``UnreadableError``."""
        try:
            fields = {name: each.value(variables) for name, each in self.attributes.items()}
            data = _filled(self.data, lambda expression: _plain(expression.value(variables)))
        except ExpressionError as error:
            raise UnreadableError(str(error), f"rule {self.name}") from error
        event: dict[str, Any] = {"specversion": "1.0", "type": self.type}
        for name, value in fields.items():
            if value is None and name == "time":
                continue
            if not isinstance(value, datetime if name == "time" else str) and not (
                name == "time" and isinstance(value, str)
            ):
                raise UnreadableError(f"{name} is {value!r}", f"rule {self.name}")
            event[name] = _plain(value)
        return event | {"data": data}


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """A compiled mapping file."""

    name: str
    reads: Reads
    signature: str
    each: Expression | None
    lookups: Sequence[Lookup]
    rules: Sequence[Rule]

    def rule(self, variables: Variables) -> Rule | None:
        """The first rule that is meant for these; raises ``UnreadableError``."""
        for rule in self.rules:
            try:
                if rule.when.holds(variables):
                    return rule
            except ExpressionError as error:
                raise UnreadableError(str(error), f"rule {rule.name}") from error
        return None


def load_mapping(path: Path, tools: Mapping[str, Tool], types: Sequence[str]) -> SourceMapping:
    """The mapping of a file, which may ask these tools and make events of these types.

    Raises ``SettingsError`` naming the file and the place.
    """
    try:
        plain = yaml.safe_load(path.read_bytes())
        source = msgspec.convert(plain, MappingSource)
    except OSError as error:
        raise SettingsError(f"cannot read the mapping {path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(f"mapping {path}: {error}") from error
    if source.signature != "none" and source.reads != "json":
        raise SettingsError(f"mapping {path}: only what reads json has a signature")
    seen: set[str] = set()
    for rule in source.rules:
        if rule.name in seen:
            raise SettingsError(f"mapping {path}: two rules are named {rule.name}")
        seen.add(rule.name)
        if rule.type and rule.type not in types:
            raise SettingsError(f"mapping {path}: rule {rule.name}: no pack has the type {rule.type}")
    return SourceMapping(
        name=str(path),
        reads=source.reads,
        signature=source.signature,
        each=Expression(source.each, f"{path}: each") if source.each else None,
        lookups=_lookups(source.lookup, str(path), tools),
        rules=tuple(_compiled(rule, str(path), tools) for rule in source.rules),
    )


def _compiled(rule: RuleSource, path: str, tools: Mapping[str, Tool]) -> Rule:
    place = f"{path}: rule {rule.name}"

    def expression(text: str, where: str) -> Expression:
        return Expression(text, f"{place}: {where}")

    return Rule(
        name=rule.name,
        when=expression(rule.when, "when"),
        type=rule.type,
        ignore=rule.ignore,
        attributes={name: expression(getattr(rule, name), name) for name in ("id", "source", "subject", "time")},
        lookups=_lookups(rule.lookup, place, tools),
        data=_walked(rule.data, "data", expression),
    )


def _lookups(sources: Mapping[str, LookupSource], place: str, tools: Mapping[str, Tool]) -> tuple[Lookup, ...]:
    found: list[Lookup] = []
    for name, lookup in sources.items():
        tool = tools.get(lookup.tool)
        if tool is None or not tool.read_only:
            raise SettingsError(f"{place}: lookup {name}: no pack has a read-only tool {lookup.tool}")
        args = {arg: Expression(text, f"{place}: lookup.{name}.{arg}") for arg, text in lookup.args.items()}
        found.append(Lookup(name, lookup.tool, args))
    return tuple(found)


def _walked(value: Any, place: str, expression: Callable[[str, str], Expression]) -> Any:
    """Every text in a tree of tables and lists as an expression; numbers, true and false stand for themselves."""
    if isinstance(value, dict):
        return {str(name): _walked(inner, f"{place}.{name}", expression) for name, inner in value.items()}
    if isinstance(value, list):
        return [_walked(inner, f"{place}[{number}]", expression) for number, inner in enumerate(value)]
    return expression(value, place) if isinstance(value, str) else value


def _filled(tree: Any, value: Callable[[Expression], Any]) -> Any:
    """The tree with the values of its expressions; what is null is left out of tables."""
    if isinstance(tree, dict):
        found = {name: _filled(inner, value) for name, inner in tree.items()}
        return {name: inner for name, inner in found.items() if inner is not None}
    if isinstance(tree, list):
        return [_filled(inner, value) for inner in tree]
    return value(tree) if isinstance(tree, Expression) else tree


def _plain(value: Any) -> Any:
    """A value of CEL as one of JSON: a time becomes RFC 3339."""
    return msgspec.to_builtins(value) if isinstance(value, datetime) else value
