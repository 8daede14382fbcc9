"""The spans of a task, as a pure function of its records: which of them its last record completes.

The rule: a span has the id that its record carries, so what a target or a model's gateway made of a ``traceparent``
that it was sent joins the tree; where two records carry one id, the later one's is made of it. The same records always
make the same spans. All stand under the task's own span, but the answers of models, which stand under their plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from agents.tracer import attributes
from agents.tracer.span import Kind, Span, Value
from agents.tracer.trail import Trail
from mesh import tracing
from mesh.inference import CompletionStatus
from mesh.journal import Stored
from mesh.records import (
    Approval,
    Completion,
    Context,
    Decision,
    Effect,
    Lesson,
    Outcome,
    OutcomeStatus,
    Phase,
    Plan,
    Prompt,
    Purpose,
    Result,
    ResultStatus,
    Verdict,
    Word,
)

_BAD_ENDS = (OutcomeStatus.FAILED, OutcomeStatus.COMPENSATED, OutcomeStatus.EXPIRED)
_NO_ANSWER = (CompletionStatus.UNAVAILABLE, CompletionStatus.OVER_BUDGET)


def completed(items: Sequence[Stored]) -> list[Span]:
    """The spans that the last of these records completes; they are all of one task up to it, in the journal's order."""
    task = Trail(items)
    match items[-1].record:
        case Context() as context:
            return [task.span("context", context.event.accepted_at, attributes.of_context(context))]
        case Completion() as completion:
            return [_chat(task, completion)]
        case Plan() as plan:
            return [task.span("plan", task.turn_given(), attributes.of_plan(plan))]
        case Decision() as decision:
            return [*_wait(task, decision), _decision(task, decision)]
        case Approval() as approval:
            return [_approval(task, approval)]
        case Effect() as effect:
            return _given_up(task, effect)
        case Result() as result:
            return [_result(task, result)]
        case Outcome() as outcome:
            return [*_left_open(task), *_ending(task, outcome)]
        case Lesson() as lesson:
            return [task.span("lesson", task.caused_at(lesson), attributes.of_lesson(lesson))]
    return []  # a prompt: it is a span's beginning


def _chat(task: Trail, completion: Completion) -> Span:
    """From the question to what came of it: one span, though several models or attempts may have been asked."""
    questions = (item for item in reversed(task.before) if isinstance(item.record, Prompt))
    asked = next((item for item in questions if item.record.token == completion.name), None)
    prompt = asked.record if asked and isinstance(asked.record, Prompt) else None
    said = attributes.of_completion(prompt, completion)
    error = str(completion.status).replace("_", " ") if completion.status in _NO_ANSWER else ""
    if error:
        said["error.type"] = str(completion.status)
    return task.span(
        f"chat {said.get('gen_ai.request.model', '')}".rstrip(),
        asked.time if asked else completion.header.at,
        said,
        error=error,
        kind=Kind.CLIENT,
        parent=task.plan_after(prompt, task.item.seq) if prompt else "",
    )


def _decision(task: Trail, decision: Decision) -> Span:
    """From the plan; one after approvals, from the last of them, or from when the time for them was over."""
    start = task.caused_at(decision)
    if decision.phase is Phase.EXECUTE:
        asked, word = task.asked(), task.last(Approval)
        if word is not None and (asked is None or word.seq > asked.seq):
            start = word.time
        elif asked is not None:
            start = _wait_over(asked, task.item.time)
    return task.span("decision", start, attributes.of_decision(decision))


def _wait_over(asked: Stored, at: datetime) -> datetime:
    until = asked.record.approve_by if isinstance(asked.record, Decision) else None
    return min(until, at) if until else at


def _wait(task: Trail, decision: Decision) -> list[Span]:
    """The wait for people that came to no word, or to too few before its time was over."""
    asked = task.asked()
    if decision.phase is not Phase.EXECUTE or asked is None or not isinstance(asked.record, Decision):
        return []
    until = asked.record.approve_by
    expired = decision.verdict is Verdict.DENY and until is not None and task.item.time >= until
    later = (item.record for item in task.before if item.seq > asked.seq)
    words = [record.statement.word for record in later if isinstance(record, Approval)]
    if words and not (expired and set(words) == {Word.APPROVE}):
        return []
    said = attributes.of_decision(asked.record)
    error = "nobody gave the word in time" if expired else ""
    given = asked.record.header.traceparent or task.base
    found = task.span("approval", asked.time, said, of=asked, error=error)
    span = tracing.span_of(tracing.child(given, "wait"))
    return [replace(found, id=span, end=max(asked.time, _wait_over(asked, task.item.time)))]


def _approval(task: Trail, approval: Approval) -> Span:
    """From when somebody was asked until this person's word: the wait for people."""
    said = approval.statement
    asked = task.asked()
    if said.purpose is Purpose.IN_DOUBT:
        doubts = (item for item in reversed(task.before) if isinstance(item.record, Result))
        asked = next((item for item in doubts if item.record.token == said.step), None)
    start = asked.time if asked else approval.header.at
    return task.span(f"approval {said.role}", start, attributes.of_approval(approval))


def _calls(task: Trail, step: str) -> list[tuple[Stored, Effect]]:
    """The calls of a step that have begun before, the last one first."""
    found = ((item, item.record) for item in reversed(task.before) if isinstance(item.record, Effect))
    return [(item, effect) for item, effect in found if effect.step == step and not _is_mark(effect)]


def _is_mark(effect: Effect) -> bool:
    return effect.withdrawn or effect.closed


def _is_open(task: Trail, item: Stored, effect: Effect) -> bool:
    """Whether nothing has been said yet of how a call ended."""
    later = (other.record for other in task.before if other.seq > item.seq)
    return not any(isinstance(record, Effect | Result) and record.step == effect.step for record in later)


def _call(task: Trail, item: Stored, effect: Effect, said: Mapping[str, Value], error: str) -> Span:
    about = {**attributes.of_effect(effect, task.items), **said}
    if error:
        about.setdefault("error.type", error.replace(" ", "_"))
    return task.span(f"execute_tool {effect.tool}", item.time, about, of=item, error=error)


def _given_up(task: Trail, effect: Effect) -> list[Span]:
    """The call before, where this record says that it was not sent, or begins another in its place."""
    for item, call in _calls(task, effect.step):
        if _is_open(task, item, call):
            return [_call(task, item, call, {}, "not sent" if effect.withdrawn else "lost")]
    return []


def _result(task: Trail, result: Result) -> Span:
    """From the effect to its result; a result that comes again settles what was in doubt, from the word on it."""
    said = attributes.of_result(result)
    errors = {ResultStatus.FAILED: "failed", ResultStatus.IN_DOUBT: "in doubt"}
    error = errors.get(result.status, "")
    for item, effect in _calls(task, result.step):
        if _is_open(task, item, effect):
            return _call(task, item, effect, said, error)
    before = task.last(Approval, Result, Effect)
    said |= {"gen_ai.tool.name": result.tool}
    start = before.time if before else result.header.at
    return task.span(f"settle {result.tool}", start, said, error=error)


def _left_open(task: Trail) -> list[Span]:
    """Calls of which nothing was ever said, when the task ends."""
    calls = [(item, item.record) for item in task.before if isinstance(item.record, Effect)]
    return [
        _call(task, item, effect, {}, "lost")
        for item, effect in calls
        if not _is_mark(effect) and _is_open(task, item, effect)
    ]


def _ending(task: Trail, outcome: Outcome) -> list[Span]:
    """The outcome, and with it the whole task, from the event on."""
    said = attributes.of_outcome(outcome, task.items)
    last = task.before[-1].time if task.before else outcome.header.at
    ending = task.span("outcome", last, said)
    error = str(outcome.status) if outcome.status in _BAD_ENDS else ""
    context = task.context
    event = attributes.of_context(context) if context else {}
    about = {"workmesh.task": outcome.header.task_id, "workmesh.domain": outcome.header.domain, **event, **said}
    whole = Span(
        trace=task.trace,
        id=task.root,
        parent=tracing.span_of(context.event.traceparent) if context else "",
        name=f"task {context.event.type if context else outcome.header.domain}",
        start=context.event.accepted_at if context else task.items[0].time,
        end=task.item.time,
        writer=context.header.writer if context else outcome.header.writer,
        attributes={**about, "error.type": error} if error else about,
        kind=Kind.CONSUMER,
        error=error,
        from_outside=bool(context and context.event.traceparent),
    )
    return [ending, whole]
