"""What is questionable about a bundle that compiles: money without a cap, tools that nothing permits, roles in vain.

The rule: a finding names the file, the policy and the way out. It reads policies and never evaluates them, so it says
what it looked at: the head of each policy, ``context.amount`` (``policy_service.money``) and ``context.approvals``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Literal

import msgspec
from cedarpy import policies_to_json_str

from mesh.records import Struct
from policy_service.bundle import SCHEMA_FILE, Bundle
from policy_service.money import Cap, cap_unless, cap_when

ACTIONS = ("propose", "execute")
_TOOLS = re.compile(r"entity Tool enum (\[[^\]]*\])")
_CONTAINS = ("contains", "containsAll", "containsAny")


class Severity(StrEnum):
    """An error stops a bundle from being published; a warning is shown, and fails only ``check --strict``."""

    ERROR = "error"
    WARNING = "warning"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is questionable. ``kind`` names the question, ``problem`` says what to do."""

    severity: Severity
    kind: Literal["cap", "tool", "role"]
    file: str
    problem: str
    policy: str = ""

    @property
    def line(self) -> str:
        """The finding for people, in one line."""
        where = f"{self.file}: policy {self.policy}" if self.policy else self.file
        return f"{self.severity}: {where}: {self.problem}"


class _Head(msgspec.Struct):
    """One part of a policy's head, in Cedar's JSON form."""

    op: str
    entity: dict[str, str] = {}
    entities: list[dict[str, str]] = []

    def names(self) -> set[str]:
        """The ids that the head names; none says that it names nothing, so that anything fits."""
        return {each["id"] for each in (self.entity, *self.entities) if "id" in each}


class _Rule(msgspec.Struct):
    """A policy as the linter reads it."""

    effect: Literal["permit", "forbid"]
    principal: _Head
    action: _Head
    resource: _Head
    conditions: list[dict[str, Any]] = []
    annotations: dict[str, str | None] = {}
    file: str = ""

    @property
    def id(self) -> str:
        return self.annotations.get("id") or ""

    def covers(self, action: str, tool: str) -> bool:
        """Whether the head lets it apply to this action on this tool."""
        return action in (self.action.names() or ACTIONS) and tool in (self.resource.names() or (tool,))

    def is_plain(self) -> bool:
        """Whether its head says no more than ``covers`` reads: of any agent, by the names of actions and tools."""
        return self.principal.op == "All" and not {self.action.op, self.resource.op} - {"All", "==", "in"}

    def is_absolute(self) -> bool:
        """Whether it applies whatever the facts are."""
        return not self.conditions and self.is_plain()


class _File(msgspec.Struct, rename="camel"):
    static_policies: dict[str, _Rule]


def lint(bundle: Bundle, tools: Iterable[str] = ()) -> list[Finding]:
    """All findings, by file and policy. ``tools`` are those of the pack that have effects, where it is installed."""
    rules = list(_rules(bundle))
    named = schema_tools(bundle)
    found = [*_caps(rules), *_tools(rules, named, tuple(tools)), *_roles(bundle, rules, named)]
    return sorted(found, key=lambda finding: (finding.severity, finding.file, finding.policy))


def schema_tools(bundle: Bundle) -> tuple[str, ...]:
    """The tools that the schema names."""
    found = _TOOLS.search(str(bundle.schema))
    return tuple(msgspec.json.decode(found[1], type=list[str])) if found else ()


def _rules(bundle: Bundle) -> Iterator[_Rule]:
    for name, text in bundle.contents.files:
        if name.endswith(".cedar"):
            for rule in msgspec.json.decode(policies_to_json_str(text), type=_File).static_policies.values():
                rule.file = name
                yield rule


def _caps(rules: Sequence[_Rule]) -> Iterator[Finding]:
    forbids = [rule for rule in rules if rule.effect == "forbid" and rule.is_plain()]
    for rule in rules:
        if rule.effect == "forbid" or not (rule.action.names() or set(ACTIONS)) & set(ACTIONS):
            continue
        above = [cap_unless(forbid.conditions) for forbid in forbids if _covers_all(forbid, rule)]
        cap = max([cap_when(rule.conditions), *above])
        if cap is Cap.NONE:
            problem = (
                "permits any amount: add `context.amount <= N` (in minor units; `context.amount == 0` where no money "
                "moves), or a forbid over the same tools with `when { context.amount > N }`"
            )
            yield Finding(severity=Severity.ERROR, kind="cap", file=rule.file, policy=rule.id, problem=problem)
        elif cap is Cap.MOVING:
            problem = "caps the amount only by another value, which may be anything: add a number as well"
            yield Finding(severity=Severity.WARNING, kind="cap", file=rule.file, policy=rule.id, problem=problem)


def _covers_all(forbid: _Rule, permit: _Rule) -> bool:
    """Whether the forbid's head fits wherever the permit's does."""
    actions, tools = forbid.action.names(), forbid.resource.names()
    return (not actions or (permit.action.names() or set(ACTIONS)) <= actions) and (
        not tools or (bool(permit.resource.names()) and permit.resource.names() <= tools)
    )


def _tools(rules: Sequence[_Rule], named: Sequence[str], tools: Sequence[str]) -> Iterator[Finding]:
    for tool in sorted(set(tools) - set(named)) if named else ():
        problem = f"does not name {tool}, a tool of the pack, so every step with it is denied: add it to `entity Tool`"
        yield Finding(severity=Severity.WARNING, kind="tool", file=SCHEMA_FILE, problem=problem)
    for tool in sorted(named):
        said = [rule for rule in rules if tool in rule.resource.names()]
        if any(rule.effect == "forbid" and rule.is_absolute() and not rule.action.names() for rule in said):
            continue
        lacking = [
            action
            for action in ACTIONS
            if not any(rule.effect == "permit" and rule.covers(action, tool) for rule in rules)
        ]
        if lacking:
            problem = (
                f"no policy permits to {' or to '.join(lacking)} {tool}: permit it, or say that it is meant with an "
                f'unconditional `forbid (principal, action, resource == Tool::"{tool}");`'
            )
            yield Finding(severity=Severity.WARNING, kind="tool", file=SCHEMA_FILE, problem=problem)


def _roles(bundle: Bundle, rules: Sequence[_Rule], named: Sequence[str]) -> Iterator[Finding]:
    """Roles that ``execute`` needs and nobody is asked for, and those that are asked and then count for nothing."""
    permits = [rule for rule in rules if rule.effect == "permit"]
    needed = {rule.id: _needed(rule) for rule in permits if "execute" in (rule.action.names() or ACTIONS)}
    asked = {rule.id: {_bare(role) for role in bundle.policies[rule.id].roles} for rule in permits}
    for rule in permits:
        tools = rule.resource.names() or set(named) or {""}
        beside = [other for other in permits if any(_meets(other, tool) for tool in tools)]
        for role in sorted(needed.get(rule.id, set())):
            if not any(role in asked[other.id] for other in beside):
                problem = (
                    f'needs approval by {role}, which no permit asks for: add `@approval("{role}")` to one of `propose`'
                )
                yield Finding(severity=Severity.ERROR, kind="role", file=rule.file, policy=rule.id, problem=problem)
        for role in sorted(asked[rule.id]):
            if not any(role in needed.get(other.id, set()) for other in beside):
                problem = (
                    f"asks for approval by {role}, which no permit of `execute` counts: add one with "
                    f'`context.approvals.contains("{role}")`, or nothing is permitted after the approval'
                )
                yield Finding(severity=Severity.ERROR, kind="role", file=rule.file, policy=rule.id, problem=problem)


def _meets(rule: _Rule, tool: str) -> bool:
    return not tool or tool in (rule.resource.names() or (tool,))


def _needed(rule: _Rule) -> set[str]:
    """The roles that its conditions look for in ``context.approvals``, wherever they stand."""
    return {_bare(role) for each in rule.conditions for role in _approvals(each["body"])}


def _approvals(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _approvals(each)
    if not isinstance(part, dict):
        return
    for name, inner in part.items():
        if name in _CONTAINS and inner["left"] == {".": {"left": {"Var": "context"}, "attr": "approvals"}}:
            values = inner["right"].get("Set", [inner["right"]])
            yield from (value["Value"] for value in values if isinstance(value.get("Value"), str))
        else:
            yield from _approvals(inner)


def _bare(role: str) -> str:
    """The role without the number of people that it needs."""
    return role.partition(":")[0]
