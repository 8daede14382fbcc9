"""What a span says of its record: names, numbers, digests, and who spoke.

The rule: what may leave the site is listed here one by one; nothing that an event, a prompt, an argument or an answer
holds, and no words that a model or a target chose. Names are those of OpenTelemetry's GenAI conventions
(https://github.com/open-telemetry/semantic-conventions-genai) and CloudEvents registry; the rest is ``workmesh.*``.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from agents.tracer.span import Value
from mesh.journal import Stored
from mesh.records import (
    Approval,
    Completion,
    Context,
    Decision,
    Effect,
    Lesson,
    Origin,
    Outcome,
    Plan,
    Prompt,
    Result,
    Usage,
)

_MICRO = 1e6
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")


def of_context(context: Context) -> dict[str, Value]:
    """The event, as far as it is not its content."""
    event = context.event
    return _told(
        {
            "cloudevents.event_id": event.id,
            "cloudevents.event_source": event.source,
            "cloudevents.event_type": event.type,
            "workmesh.intake": event.channel,
            "workmesh.entity_kind": context.entity_kind,
            "workmesh.after": context.after,
        }
    )


def of_completion(prompt: Prompt | None, completion: Completion) -> dict[str, Value]:
    """A call of a model, or the calls of a chain. Tokens of input count what was cached too, as the conventions ask."""
    usage = completion.usage
    asked = completion.model or (usage[-1].model if usage else "")
    said: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": asked,
        "gen_ai.response.model": completion.model if usage else "",
        "gen_ai.prompt.name": prompt.file if prompt else "",
        "gen_ai.usage.input_tokens": sum(use.tokens_in + use.tokens_cached + use.tokens_written for use in usage),
        "gen_ai.usage.output_tokens": sum(use.tokens_out for use in usage),
        "gen_ai.usage.cache_read.input_tokens": sum(use.tokens_cached for use in usage),
        "gen_ai.usage.cache_creation.input_tokens": sum(use.tokens_written for use in usage),
        "workmesh.question": prompt.role if prompt else "",
        "workmesh.completion": completion.status,
        "workmesh.calls": len(usage),
        "workmesh.cost_usd": _cost(usage),
        "workmesh.reused": bool(completion.reused),
        "workmesh.batch": bool(completion.batch),
    }
    if prompt is not None:
        said |= {"gen_ai.request.max_tokens": prompt.max_tokens}
    return _told(said)


def of_plan(plan: Plan) -> dict[str, Value]:
    """A plan: what made it, and how much it holds."""
    return _told(
        {
            "workmesh.playbook": plan.playbook,
            "workmesh.playbook_digest": plan.playbook_digest,
            "workmesh.plan_digest": plan.digest,
            "workmesh.origin": plan.origin,
            "workmesh.revision": plan.revision,
            "workmesh.refused": bool(plan.refusal),
            "workmesh.steps": len(plan.steps),
            "workmesh.reads": tuple(reading.call.tool for reading in plan.readings),
            "workmesh.citations": len(plan.citations),
            "workmesh.candidates": len(plan.candidates),
            "workmesh.repeats": plan.repeats,
        }
    )


def of_decision(decision: Decision) -> dict[str, Value]:
    """A decision: its verdict, and by which policies of which bundle."""
    return _told(
        {
            "workmesh.phase": decision.phase,
            "workmesh.decision": decision.verdict,
            "workmesh.bundle": decision.bundle,
            "workmesh.policies": _each(policy for step in decision.steps for policy in step.policies),
            "workmesh.roles": _each(role for step in decision.steps for role in step.roles),
            "workmesh.plan_digest": decision.plan_digest,
            "workmesh.revision": decision.revision,
        }
    )


def of_approval(approval: Approval) -> dict[str, Value]:
    """Who said what in which role; not the comment."""
    said = approval.statement
    return _told(
        {
            "workmesh.person": said.person,
            "workmesh.role": said.role,
            "workmesh.word": said.word,
            "workmesh.about": said.purpose,
            "workmesh.plan_digest": said.plan_digest,
            "workmesh.policies": approval.policies,
        }
    )


def of_effect(effect: Effect, items: Sequence[Stored]) -> dict[str, Value]:
    """A call of a tool."""
    plan = _plan_of(effect.step, items)
    is_chosen = plan is None or plan.origin is Origin.MODEL  # then a model may have named the step
    base, _, kind = effect.step.partition("~")
    number = next((n for n, step in enumerate(plan.steps, 1) if step.id == base), 0) if plan else 0
    return _told(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": effect.tool,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": hashlib.sha256(effect.key.encode()).hexdigest()[:32] if is_chosen else effect.key,
            "workmesh.step": "" if is_chosen else base,
            "workmesh.step_number": number,
            "workmesh.compensates": kind == "undo",
            "workmesh.attempt": effect.epoch,
            "workmesh.executor": effect.executor,
        }
    )


def of_result(result: Result) -> dict[str, Value]:
    """How a call of a tool ended."""
    said: dict[str, Value] = {
        "workmesh.result": result.status,
        "workmesh.recovered": result.recovered,
        "workmesh.call_ms": result.duration_ms,
    }
    if result.code:
        said["error.type"] = result.code if _CODE.fullmatch(result.code) else "_OTHER"
    return _told(said)


def of_outcome(outcome: Outcome, items: Sequence[Stored]) -> dict[str, Value]:
    """How the task ended, and what its models cost."""
    calls = [use for item in items if isinstance(item.record, Completion) for use in item.record.usage]
    words = [item.record.statement.person for item in items if isinstance(item.record, Approval)]
    return _told(
        {
            "workmesh.outcome": outcome.status,
            "workmesh.playbook": outcome.playbook,
            "workmesh.tools": _each(outcome.tools),
            "workmesh.people": _each(words),
            "workmesh.cost_usd": _cost(calls),
        }
    )


def of_lesson(lesson: Lesson) -> dict[str, Value]:
    """Of what was learned, whether a person taught it."""
    return _told({"workmesh.playbook": lesson.playbook, "workmesh.person": lesson.person})


def _plan_of(token: str, items: Sequence[Stored]) -> Plan | None:
    """The last plan that has the step of this token."""
    base = token.partition("~")[0]
    plans = [item.record for item in items if isinstance(item.record, Plan)]
    return next((plan for plan in reversed(plans) if any(step.id == base for step in plan.steps)), None)


def _cost(usage: Sequence[Usage]) -> float:
    return sum(use.cost_micro_usd for use in usage) / _MICRO


def _each(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _told(said: Mapping[str, Value]) -> dict[str, Value]:
    """What there is something to say of."""
    return {name: value for name, value in said.items() if value != "" and value != ()}
