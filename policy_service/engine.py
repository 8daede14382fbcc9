"""Deciding: a plan, the facts of its steps and the approvals given become verdicts, by the policies of a bundle.

Pure, and it fails closed: what is missing, does not fit the schema or goes wrong while evaluating is a deny with a
reason (invariant 5). A step is put to Cedar twice: ``propose`` tells who must approve, ``execute`` whether they have
(left out where the first answer settles the second).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from cedarpy import AuthzResult, Entities, is_authorized

from mesh.pack import Sheet
from mesh.records import Context, Json, Plan, StepVerdict, Struct, Verdict
from policy_service.annotations import Policy
from policy_service.bundle import Bundle
from policy_service.taint import read_outside, tainted_arguments

NO_PERMIT = "no policy permits this"

_PROPOSE = "propose"
_EXECUTE = "execute"
_FAILED_POLICY = re.compile(r"while evaluating policy `([^`]+)`")
# What cedarpy, msgspec and arithmetic on foreign values raise. A deny is the answer to each: not knowing is no permit.
_FAILURES = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, msgspec.MsgspecError)


class Question(Struct, frozen=True, kw_only=True):
    """One step as policy sees it. ``tainted`` are the names of arguments that come from outside text."""

    step: str
    tool: str
    sheet: Sheet
    tainted: frozenset[str] = frozenset()


class Assessment(Struct, frozen=True, kw_only=True):
    """What policy says of a whole plan. ``reason`` is the first one of the first step that stands in the way.

    ``escalate_after`` is the shortest wait that a policy asks for before others are told that approval is missing.
    """

    verdict: Verdict
    steps: tuple[StepVerdict, ...] = ()
    reason: str = ""
    escalate_after: timedelta | None = None


class CedarRequest(Struct, frozen=True, kw_only=True):
    """One request to Cedar, as people read it; ``context`` is the JSON that it gets."""

    principal: str
    action: str
    resource: str
    context: Json


class _CedarContext(Struct, frozen=True, kw_only=True):
    tool: str
    amount: int
    currency: str
    approvals: list[str]
    tainted: list[str]
    facts: dict[str, Any]


class _Answer(Struct, frozen=True, kw_only=True):
    """Cedar's answer to one request: the determining policies in the order of their reasons, or what went wrong."""

    allowed: bool
    policies: tuple[Policy, ...] = ()
    error: str = ""


def assess(
    bundle: Bundle, context: Context, plan: Plan, sheets: Mapping[str, Sheet], approvals: frozenset[str]
) -> Assessment:
    """Decide on a plan: denied when any step is, waiting when any step needs approval, else allowed.

    ``sheets`` holds the facts by step id; ``approvals`` are roles whose signatures the caller has verified. A plan
    without steps, with a step without facts or with an ambiguous step id is denied. Never raises for bad input.
    """
    if not plan.steps:
        return Assessment(verdict=Verdict.DENY, reason=plan.refusal or "the plan has no steps")
    counts = Counter(step.id for step in plan.steps)
    if repeated := [step for step, count in counts.items() if count > 1]:
        return Assessment(verdict=Verdict.DENY, reason=f"step {repeated[0]} occurs {counts[repeated[0]]} times")
    try:
        outside = read_outside(context.data, context.taint)
    except _FAILURES as error:
        return Assessment(verdict=Verdict.DENY, reason=f"the event's data cannot be read: {error}")
    verdicts: list[StepVerdict] = []
    for step in plan.steps:
        sheet = sheets.get(step.id)
        if sheet is None:
            verdicts.append(_deny(step.id, "no facts were read for this step"))
            continue
        try:
            tainted = tainted_arguments(step.call.args, outside)
        except _FAILURES as error:
            verdicts.append(_deny(step.id, f"the arguments cannot be read: {error}"))
            continue
        question = Question(step=step.id, tool=step.call.tool, sheet=sheet, tainted=tainted)
        verdicts.append(judge(bundle, question, approvals))
    return _join(bundle, verdicts, approvals)


def judge(bundle: Bundle, question: Question, approvals: frozenset[str]) -> StepVerdict:
    """Decide on one step. ``roles`` of the verdict are all that must approve, whether or not they have.

    ``policies`` are those that determined the answer and ``reasons`` their ``@reason`` texts, by ``@rank`` and id.
    """
    try:
        return _judge(bundle, question, approvals)
    except _FAILURES as error:
        return _deny(question.step, f"policy could not be evaluated: {error}")


def _judge(bundle: Bundle, question: Question, approvals: frozenset[str]) -> StepVerdict:
    context = _context(question, approvals)
    proposed = _ask(bundle, question, _PROPOSE, context)
    if not proposed.allowed:
        return _refuse(question.step, proposed)
    roles = tuple(sorted({role for policy in proposed.policies for role in policy.roles}))
    if bundle.settled(question.tool, proposed.policies):
        return _grant(question.step, Verdict.ALLOW, proposed.policies, roles)
    executed = _ask(bundle, question, _EXECUTE, context)
    if executed.allowed:
        return _grant(question.step, Verdict.ALLOW, (*proposed.policies, *executed.policies), roles)
    if not executed.error and not approvals.issuperset(roles):
        return _grant(question.step, Verdict.NEEDS_APPROVAL, proposed.policies, roles)
    return _refuse(question.step, executed)


def _context(question: Question, approvals: frozenset[str]) -> str:
    sheet = question.sheet
    context = _CedarContext(
        tool=question.tool,
        amount=sheet.amount,
        currency=sheet.currency,
        approvals=sorted(approvals),
        tainted=sorted(question.tainted),
        facts=msgspec.json.decode(sheet.facts, type=dict[str, Any]),
    )
    return msgspec.json.encode(context).decode()


def _ask(bundle: Bundle, question: Question, action: str, context: str) -> _Answer:
    request = {
        "principal": {"type": "Agent", "id": "planner"},
        "action": {"type": "Action", "id": action},
        "resource": {"type": "Tool", "id": question.tool},
        "context": context,
    }
    policies = bundle.policies_for(question.tool)
    return _read(bundle, is_authorized(request, policies, _entities(bundle, question.sheet), bundle.schema))


def _entities(bundle: Bundle, sheet: Sheet) -> Entities:
    raw = bytes(sheet.entities)
    return bundle.no_entities if raw == b"[]" else Entities.from_json_str(raw.decode(), bundle.schema)


def _read(bundle: Bundle, result: AuthzResult) -> _Answer:
    """One of Cedar's answers; any error makes it a deny, since Cedar itself skips a ``forbid`` that fails."""
    diagnostics = result.diagnostics
    if errors := diagnostics.errors:
        failed = sorted({name for error in errors for name in _FAILED_POLICY.findall(error)})
        said = f"policy error in {', '.join(failed)}" if failed else f"policy error: {errors[0]}"
        return _Answer(allowed=False, error=said, policies=_ordered(bundle.policies[name] for name in failed))
    return _Answer(allowed=result.allowed, policies=_ordered(bundle.policies[name] for name in diagnostics.reasons))


def _ordered(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    return tuple(sorted({policy.id: policy for policy in policies}.values(), key=lambda policy: policy.order))


def _deny(step: str, reason: str) -> StepVerdict:
    return StepVerdict(step=step, verdict=Verdict.DENY, reasons=(reason,))


def _refuse(step: str, answer: _Answer) -> StepVerdict:
    """The deny that this answer means: by an error, by forbids, or for want of a permit."""
    if answer.error:
        reasons: tuple[str, ...] = (answer.error,)
    else:
        reasons = tuple(policy.reason or f"forbidden by {policy.id}" for policy in answer.policies)
    names = tuple(policy.id for policy in answer.policies)
    return StepVerdict(step=step, verdict=Verdict.DENY, policies=names, reasons=reasons or (NO_PERMIT,))


def _grant(step: str, verdict: Verdict, policies: Iterable[Policy], roles: tuple[str, ...]) -> StepVerdict:
    ordered = _ordered(policies)
    obligations = {policy.obligation: None for policy in ordered if policy.obligation is not None}
    return StepVerdict(
        step=step,
        verdict=verdict,
        policies=tuple(policy.id for policy in ordered),
        reasons=tuple(policy.reason for policy in ordered if policy.reason),
        roles=roles,
        obligations=tuple(obligations),
    )


def _join(bundle: Bundle, verdicts: Iterable[StepVerdict], approvals: frozenset[str]) -> Assessment:
    steps = tuple(verdicts)
    denied = [step for step in steps if step.verdict is Verdict.DENY]
    if denied:
        return Assessment(verdict=Verdict.DENY, steps=steps, reason=denied[0].reasons[0])
    waiting = [step for step in steps if step.verdict is Verdict.NEEDS_APPROVAL]
    if not waiting:
        return Assessment(verdict=Verdict.ALLOW, steps=steps)
    missing = sorted({role for step in waiting for role in step.roles} - approvals)
    waits = [bundle.policies[name].escalate_after for step in waiting for name in step.policies]
    return Assessment(
        verdict=Verdict.NEEDS_APPROVAL,
        steps=steps,
        reason=f"waits for approval by {', '.join(missing)}",
        escalate_after=min((wait for wait in waits if wait is not None), default=None),
    )


def request_of(bundle: Bundle, question: Question, action: str, approvals: frozenset[str]) -> CedarRequest:
    """What Cedar is asked about a step; raises what reading foreign values raises."""
    return CedarRequest(
        principal='Agent::"planner"',
        action=f'Action::"{action}"',
        resource=f'Tool::"{question.tool}"',
        context=msgspec.Raw(_context(question, approvals).encode()),
    )
