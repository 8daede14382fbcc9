"""Why a decision came out as it did: what Cedar was asked, which policies said so, and which permits did not apply.

The rule: nothing is guessed. A permit's conditions are put to Cedar one by one, with the request of then; what can only
be known by asking anew (facts that were not recorded) is said to be missing.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
from cedarpy import PolicySet, is_authorized, policies_from_json_str, policies_to_json_str

from mesh.records import Obligation, StepVerdict, Struct, Verdict
from policy_service.again import Past
from policy_service.bundle import Bundle
from policy_service.engine import CedarRequest, request_of
from policy_service.lint import ACTIONS
from policy_service.source_text import policy_texts

_CONDITION = re.compile(r"when \{(.*)\};\s*\Z", re.DOTALL)
_NEEDLESS = re.compile(r"(?<![\w\]])\(((?:context|principal|resource)(?:\.\w+)+)\)")
_ANYBODY: Mapping[str, Any] = {"op": "All"}


class ExplainedPolicy(Struct, frozen=True, kw_only=True):
    """A policy that determined the verdict, as it was written."""

    id: str
    file: str
    effect: str
    text: str
    reason: str = ""


class Unapplied(Struct, frozen=True, kw_only=True):
    """A permit for the tool that did not apply to an action, and which of its conditions were not met."""

    id: str
    action: str
    why: tuple[str, ...]


class ExplainedStep(Struct, frozen=True, kw_only=True):
    """One step: the verdict on record, what Cedar was asked, what determined it, and what did not apply."""

    step: str
    tool: str
    verdict: Verdict
    reasons: tuple[str, ...]
    roles: tuple[str, ...]
    obligations: tuple[Obligation, ...]
    requests: tuple[CedarRequest, ...]
    policies: tuple[ExplainedPolicy, ...]
    unapplied: tuple[Unapplied, ...]


class ExplainedDecision(Struct, frozen=True, kw_only=True):
    """One decision. ``approvals`` had been given by then; ``again`` is the verdict that this version makes of it."""

    phase: str
    verdict: Verdict
    reason: str
    at: datetime
    bundle: str
    approvals: tuple[str, ...]
    again: Verdict
    steps: tuple[ExplainedStep, ...] = ()


def explain(past: Past, bundle: Bundle) -> ExplainedDecision:
    """The decision on record, explained by the bundle that it was made under."""
    decision = past.decision
    questions = {question.step: question for question in past.questions(bundle)}
    steps = []
    for verdict in decision.steps:
        question = questions.get(verdict.step)
        requests: tuple[CedarRequest, ...] = ()
        if question is not None:
            requests = tuple(request_of(bundle, question, action, past.approvals) for action in ACTIONS)
        steps.append(_step(bundle, verdict, question.tool if question else "", requests))
    return ExplainedDecision(
        phase=decision.phase,
        verdict=decision.verdict,
        reason=decision.reason,
        at=decision.header.at,
        bundle=decision.bundle,
        approvals=tuple(sorted(past.approvals)),
        again=past.again(bundle).verdict,
        steps=tuple(steps),
    )


def _step(bundle: Bundle, verdict: StepVerdict, tool: str, requests: tuple[CedarRequest, ...]) -> ExplainedStep:
    texts: dict[str, str] = {}
    for name, text in bundle.contents.files:
        if name.endswith(".cedar"):
            texts |= policy_texts(text)
    named = [bundle.policies[name] for name in verdict.policies if name in bundle.policies]
    return ExplainedStep(
        step=verdict.step,
        tool=tool,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        roles=verdict.roles,
        obligations=verdict.obligations,
        requests=requests,
        policies=tuple(
            ExplainedPolicy(id=each.id, file=each.file, effect=each.effect, text=texts[each.id], reason=each.reason)
            for each in named
        ),
        unapplied=tuple(_unapplied(bundle, tool, requests)),
    )


def _unapplied(bundle: Bundle, tool: str, requests: tuple[CedarRequest, ...]) -> Iterator[Unapplied]:
    """The permits for the tool whose conditions were not met, action by action."""
    for name, source in _permits(bundle):
        for action, request in zip(ACTIONS, requests, strict=False):
            asked = _asked(request, tool, action)
            if not _applies(bundle, source | {"conditions": []}, asked)[0]:
                continue  # its head is about something else
            applies, error = _applies(bundle, source, asked)
            if applies:
                continue
            why = tuple(_unmet(bundle, source, asked)) or ((error,) if error else ("its conditions were not met",))
            yield Unapplied(id=name, action=action, why=why)


def _permits(bundle: Bundle) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, text in bundle.contents.files:
        if name.endswith(".cedar"):
            for source in msgspec.json.decode(policies_to_json_str(text))["staticPolicies"].values():
                if source["effect"] == "permit":
                    yield source["annotations"]["id"], source


def _asked(request: CedarRequest, tool: str, action: str) -> dict[str, Any]:
    kind, _, agent = request.principal.partition("::")
    return {
        "principal": {"type": kind, "id": agent.strip('"')},
        "action": {"type": "Action", "id": action},
        "resource": {"type": "Tool", "id": tool},
        "context": bytes(request.context).decode(),
    }


def _applies(bundle: Bundle, source: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether Cedar permits the request by this policy alone, and the error that it met instead."""
    document = {"staticPolicies": {"one": source}, "templates": {}, "templateLinks": []}
    policies = PolicySet.from_json_str(msgspec.json.encode(document).decode())
    said = is_authorized(dict(asked), policies, bundle.no_entities, bundle.schema)
    return said.allowed, "; ".join(said.diagnostics.errors)


def _unmet(bundle: Bundle, source: dict[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """The parts of its conditions that were not met, with the values that they look at."""
    context = msgspec.json.decode(asked["context"])
    for condition in source["conditions"]:
        wanted = condition["kind"] == "when"
        for part in _parts(condition["body"], "&&" if wanted else "||"):
            holds, error = _applies(bundle, source | {"conditions": [{"kind": "when", "body": part}]}, asked)
            if holds is wanted or error:
                continue
            values = "; ".join(f"{path} is {_json(value)}" for path, value in _values(part, context).items())
            yield f"{_text(part)} is {'false' if wanted else 'true'}" + (f": {values}" if values else "")


def _parts(body: Mapping[str, Any], operator: str) -> Iterator[Mapping[str, Any]]:
    if operator in body:
        yield from _parts(body[operator]["left"], operator)
        yield from _parts(body[operator]["right"], operator)
    else:
        yield body


def _text(part: Mapping[str, Any]) -> str:
    """A part of a condition in Cedar's own words."""
    policy = {
        "effect": "permit",
        "principal": _ANYBODY,
        "action": _ANYBODY,
        "resource": _ANYBODY,
        "conditions": [{"kind": "when", "body": part}],
    }
    document = {"staticPolicies": {"one": policy}, "templates": {}, "templateLinks": []}
    found = _CONDITION.search(policies_from_json_str(msgspec.json.encode(document).decode()))
    return _NEEDLESS.sub(r"\1", " ".join(found[1].split())) if found else _json(part)


def _values(part: Any, context: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the attributes of ``context`` that a part looks at."""
    path = _path(part)
    if path:
        value: Any = context
        for name in path:
            if not isinstance(value, dict) or name not in value:
                return {}
            value = value[name]
        return {"context." + ".".join(path): value}
    found: dict[str, Any] = {}
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        found |= _values(inner, context)
    return found


def _path(part: Any) -> tuple[str, ...]:
    """The names in ``context.a.b``, or none when it is something else."""
    names: list[str] = []
    while isinstance(part, dict) and set(part) == {"."}:
        names.insert(0, part["."]["attr"])
        part = part["."]["left"]
    return tuple(names) if part == {"Var": "context"} else ()


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
