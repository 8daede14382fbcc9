"""Deciding: a plan, the facts of its steps and the approvals given become verdicts, by the policies of a bundle.

Pure, and it fails closed: what is missing, does not fit the schema or goes wrong while evaluating is a deny with a
reason (invariant 5). A step is put to Cedar twice: ``propose`` tells who must approve, ``execute`` whether they have
(left out where the first answer settles the second). A person's approval is put to it as ``approve``, where the schema
has that action.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from cedarpy import AuthzResult, Entities, is_authorized

from mesh.pack import Sheet
from mesh.records import Call, Context, Json, Origin, Plan, StepVerdict, Struct, Verdict
from policy_service.annotations import Policy
from policy_service.bundle import Bundle
from policy_service.governance import shortest
from policy_service.quorum import joined, missing
from policy_service.taint import Outside, read_outside, tainted_arguments, with_readings

NO_PERMIT = "no policy permits this"
AGENT = "planner"

_PROPOSE = "propose"
_EXECUTE = "execute"
_APPROVE = "approve"
_FAILED_POLICY = re.compile(r"while evaluating policy `([^`]+)`")
# What cedarpy, msgspec and arithmetic on foreign values raise. A deny is the answer to each: not knowing is no permit.
_FAILURES = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, msgspec.MsgspecError)


class Circumstances(Struct, frozen=True, kw_only=True):
    """What a decision depends on beside plan, facts and approvals, so that it can be made again later.

    ``agent`` wrote the plan; ``stages`` are how far each tool may act by itself; ``entity`` is what the task is about.
    ``related`` tasks seem to be the same request, by another channel. ``hub_silent_s`` is for how long the site's hub
    has not been heard (``mesh.link``), ``None`` where it has none.
    """

    at: datetime
    agent: str = AGENT
    stages: Mapping[str, str] = {}
    entity: str = ""
    related: int = 0
    hub_silent_s: int | None = None


class Question(Struct, frozen=True, kw_only=True):
    """One step as policy sees it. ``tainted`` are the names of arguments that come from outside text.

    ``extras`` holds what policies see only if their schema declares it (``policy_service.bundle.EXTRAS``).
    """

    step: str
    tool: str
    sheet: Sheet
    tainted: frozenset[str] = frozenset()
    agent: str = AGENT
    extras: Mapping[str, str | int | bool] = {}


class Assessment(Struct, frozen=True, kw_only=True):
    """What policy says of a whole plan. ``reason`` is the first one of the first step that stands in the way.

    ``escalate_after`` is the shortest wait after which stand-ins may approve. ``observed`` says that the plan is denied
    only because a tool may not act yet.
    """

    verdict: Verdict
    steps: tuple[StepVerdict, ...] = ()
    reason: str = ""
    escalate_after: timedelta | None = None
    observed: bool = False


class CedarRequest(Struct, frozen=True, kw_only=True):
    """One request to Cedar, as people read it; ``context`` is the JSON that it gets."""

    principal: str
    action: str
    resource: str
    context: Json


class _Answer(Struct, frozen=True, kw_only=True):
    """Cedar's answer to one request: the determining policies in the order of their reasons, or what went wrong."""

    allowed: bool
    policies: tuple[Policy, ...] = ()
    error: str = ""


def assess(
    bundle: Bundle,
    context: Context,
    plan: Plan,
    sheets: Mapping[str, Sheet],
    approvals: frozenset[str],
    around: Circumstances,
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
        outside = read_outside(context.data, context.taint, written=plan.origin is Origin.MODEL)
        outside = with_readings(outside, context.data, plan.readings)
    except _FAILURES as error:
        return Assessment(verdict=Verdict.DENY, reason=f"the event's data cannot be read: {error}")
    extras = _extras(bundle, plan, sheets, around)
    verdicts: list[StepVerdict] = []
    for step in plan.steps:
        sheet = sheets.get(step.id)
        if sheet is None:
            verdicts.append(_deny(step.id, "no facts were read for this step"))
            continue
        verdict = _judge_call(bundle, step.id, step.call, sheet, outside, approvals, extras, around)
        if step.compensation is not None:
            # Whether or not the policies can tell it from a step: what no policy has seen, nobody may do.
            undoing = extras | {"compensation": True} if extras else extras
            undo = _judge_call(bundle, step.id, step.compensation, sheet, outside, approvals, undoing, around)
            verdict = _with_compensation(verdict, step.compensation.tool, undo)
        verdicts.append(verdict)
    return conclude(bundle, verdicts, approvals)


def questions(
    bundle: Bundle, context: Context, plan: Plan, sheets: Mapping[str, Sheet], around: Circumstances
) -> list[Question]:
    """The steps as policy sees them; those without facts are left out. Raises what reading foreign values raises."""
    outside = read_outside(context.data, context.taint, written=plan.origin is Origin.MODEL)
    outside = with_readings(outside, context.data, plan.readings)
    extras = _extras(bundle, plan, sheets, around)
    known = [(step, sheets[step.id]) for step in plan.steps if step.id in sheets]
    return [_question(step.id, step.call, sheet, outside, extras, around) for step, sheet in known]


def _extras(
    bundle: Bundle, plan: Plan, sheets: Mapping[str, Sheet], around: Circumstances
) -> dict[str, str | int | bool]:
    """What is the same for all steps of a plan, as far as this bundle's policies may see it."""
    if not bundle.extras:
        return {}
    link: dict[str, str | int | bool] = {}
    if around.hub_silent_s is not None:
        link["hub_silent_s"] = around.hub_silent_s
    return link | {
        "total": sum(sheet.amount for sheet in sheets.values()),
        "agent": around.agent,
        "domain": plan.header.domain,
        "entity": around.entity,
        "playbook": plan.playbook,
        "origin": str(plan.origin),
        "now": int(around.at.timestamp()),
        "hour": around.at.hour,
        "weekday": around.at.isoweekday(),
        "compensation": False,
        "related": around.related,
    }


def _question(
    step: str,
    call: Call,
    sheet: Sheet,
    outside: Outside,
    extras: Mapping[str, str | int | bool],
    around: Circumstances,
) -> Question:
    stage = around.stages.get(call.tool, "")
    return Question(
        step=step,
        tool=call.tool,
        sheet=sheet,
        tainted=tainted_arguments(call.args, outside.confirming(sheet.confirmed)),
        agent=around.agent,
        extras={**extras, "stage": stage} if extras else {},
    )


def _judge_call(
    bundle: Bundle,
    step: str,
    call: Call,
    sheet: Sheet,
    outside: Outside,
    approvals: frozenset[str],
    extras: Mapping[str, str | int | bool],
    around: Circumstances,
) -> StepVerdict:
    try:
        question = _question(step, call, sheet, outside, extras, around)
    except _FAILURES as error:
        return _deny(step, f"the arguments cannot be read: {error}")
    verdict = judge(bundle, question, approvals)
    tainted, stage = tuple(sorted(question.tainted)), around.stages.get(call.tool, "")
    return msgspec.structs.replace(verdict, tainted=tainted, stage=stage) if tainted or stage else verdict


def _with_compensation(verdict: StepVerdict, tool: str, undo: StepVerdict) -> StepVerdict:
    """The verdict on a step and on what would undo it: one permit covers both, so both must be permitted."""
    if undo.verdict is Verdict.ALLOW or verdict.verdict is Verdict.DENY:
        return verdict
    if undo.verdict is Verdict.DENY:
        reasons = tuple(f"undoing it with {tool}: {reason}" for reason in undo.reasons)
        return msgspec.structs.replace(verdict, verdict=Verdict.DENY, policies=undo.policies, reasons=reasons)
    return msgspec.structs.replace(
        verdict,
        verdict=Verdict.NEEDS_APPROVAL,
        policies=tuple(dict.fromkeys((*verdict.policies, *undo.policies))),
        roles=joined((*verdict.roles, *undo.roles)),
        stand_ins=tuple(sorted({*verdict.stand_ins, *undo.stand_ins})),
    )


def judge(bundle: Bundle, question: Question, approvals: frozenset[str]) -> StepVerdict:
    """Decide on one step. ``roles`` of the verdict are all that must approve, whether or not they have.

    ``policies`` are those that determined the answer and ``reasons`` their ``@reason`` texts, by ``@rank`` and id.
    """
    try:
        return _judge(bundle, question, approvals)
    except _FAILURES as error:
        return _deny(question.step, f"policy could not be evaluated: {error}")


def _judge(bundle: Bundle, question: Question, approvals: frozenset[str]) -> StepVerdict:
    context = _context(bundle, question, approvals)
    proposed = _ask(bundle, question, _PROPOSE, context)
    if not proposed.allowed:
        return _refuse(question.step, proposed)
    roles = joined(role for policy in proposed.policies for role in policy.roles)
    if bundle.settled(question.tool, proposed.policies):
        return _grant(question.step, Verdict.ALLOW, proposed.policies, roles)
    executed = _ask(bundle, question, _EXECUTE, context)
    if executed.allowed:
        return _grant(question.step, Verdict.ALLOW, (*proposed.policies, *executed.policies), roles)
    if not executed.error and not approvals.issuperset(roles):
        return _grant(question.step, Verdict.NEEDS_APPROVAL, proposed.policies, roles)
    return _refuse(question.step, executed)


def judge_approval(bundle: Bundle, question: Question, person: str, roles: Iterable[str]) -> StepVerdict:
    """Whether this person may approve this step, by policies on ``approve``; ``roles`` are those of the person's key.

    Where the schema has no such action, the role alone decides, which the caller has checked.
    """
    if not bundle.judges_people:
        return StepVerdict(step=question.step, verdict=Verdict.ALLOW)
    try:
        context = _context(bundle, question, frozenset())
        principal = {"uid": {"type": "Person", "id": person}, "attrs": {"roles": sorted(roles)}, "parents": []}
        raw = [*msgspec.json.decode(question.sheet.entities), principal]
        entities = Entities.from_json_str(msgspec.json.encode(raw).decode(), bundle.schema)
        answer = _request(bundle, question, "Person", person, _APPROVE, context, entities)
    except _FAILURES as error:
        return _deny(question.step, f"policy could not be evaluated: {error}")
    if not answer.allowed:
        return _refuse(question.step, answer)
    return _grant(question.step, Verdict.ALLOW, answer.policies, ())


def _context(bundle: Bundle, question: Question, approvals: frozenset[str]) -> str:
    sheet = question.sheet
    context: dict[str, Any] = {name: question.extras[name] for name in bundle.extras if name in question.extras}
    context |= {
        "tool": question.tool,
        "amount": sheet.amount,
        "currency": sheet.currency,
        "approvals": sorted(approvals),
        "tainted": sorted(question.tainted),
        "facts": msgspec.json.decode(sheet.facts, type=dict[str, Any]),
    }
    return msgspec.json.encode(context).decode()


def _ask(bundle: Bundle, question: Question, action: str, context: str) -> _Answer:
    return _request(bundle, question, "Agent", question.agent, action, context, _entities(bundle, question.sheet))


def _request(
    bundle: Bundle, question: Question, kind: str, principal: str, action: str, context: str, entities: Entities
) -> _Answer:
    request = {
        "principal": {"type": kind, "id": principal},
        "action": {"type": "Action", "id": action},
        "resource": {"type": "Tool", "id": question.tool},
        "context": context,
    }
    policies = bundle.policies_for(question.tool)
    return _read(bundle, is_authorized(request, policies, entities, bundle.schema))


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
    return StepVerdict(
        step=step,
        verdict=verdict,
        policies=tuple(policy.id for policy in ordered),
        reasons=tuple(policy.reason for policy in ordered if policy.reason),
        roles=roles,
        obligations=tuple(dict.fromkeys(each for policy in ordered for each in policy.obligations)),
        stand_ins=tuple(sorted({role for policy in ordered for role in policy.stand_ins})) if roles else (),
    )


def conclude(bundle: Bundle, verdicts: Iterable[StepVerdict], approvals: frozenset[str]) -> Assessment:
    """The verdict on a plan from those on its steps."""
    steps = tuple(verdicts)
    denied = [step for step in steps if step.verdict is Verdict.DENY]
    if denied:
        return Assessment(verdict=Verdict.DENY, steps=steps, reason=denied[0].reasons[0])
    waiting = [step for step in steps if step.verdict is Verdict.NEEDS_APPROVAL]
    if not waiting:
        return Assessment(verdict=Verdict.ALLOW, steps=steps)
    lacking = missing((role for step in waiting for role in step.roles), approvals)
    known = (bundle.policies.get(name) for step in waiting for name in step.policies)
    return Assessment(
        verdict=Verdict.NEEDS_APPROVAL,
        steps=steps,
        reason=f"waits for approval by {', '.join(lacking)}",
        escalate_after=shortest(policy.escalate_after for policy in known if policy is not None),
    )


def request_of(bundle: Bundle, question: Question, action: str, approvals: frozenset[str]) -> CedarRequest:
    """What Cedar is asked about a step; raises what reading foreign values raises."""
    return CedarRequest(
        principal=f'Agent::"{question.agent}"',
        action=f'Action::"{action}"',
        resource=f'Tool::"{question.tool}"',
        context=msgspec.Raw(_context(bundle, question, approvals).encode()),
    )
