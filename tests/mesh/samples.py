"""One record of each kind, and small events, for tests that need some."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh import canonical
from mesh.inference import CompletionStatus, Mode, ModelRole, Tier
from mesh.plans import plan_digest
from mesh.records import (
    AnyRecord,
    Approval,
    Call,
    Causation,
    Citation,
    Completion,
    Context,
    Decision,
    Effect,
    Event,
    FactSheet,
    Header,
    Json,
    Lesson,
    Obligation,
    Outcome,
    OutcomeStatus,
    Phase,
    Plan,
    Prompt,
    Purpose,
    Reading,
    Result,
    ResultStatus,
    StageTime,
    Statement,
    Step,
    StepVerdict,
    Usage,
    Verdict,
    Word,
)

AT = datetime(2026, 11, 20, 12, 30, 15, 250_000, tzinfo=UTC)
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def json(value: Any) -> Json:
    """The value as raw JSON."""
    return Json(msgspec.json.encode(value))


def header(task_id: str = "t1", domain: str = "retail", **changes: Any) -> Header:
    """A header; ``changes`` replace fields."""
    made = Header(
        task_id=task_id,
        domain=domain,
        causation=Causation(stream="EVENTS", subject="event.retail.x", seq=7),
        writer="tester/one",
        at=AT,
        traceparent=TRACE,
    )
    return msgspec.structs.replace(made, **changes)


def context(task_id: str = "t1", *, data: Any = None, domain: str = "retail") -> Context:
    """What perception made of an event."""
    event = Event(
        id="e1", source="/shop", type="retail.x", time=AT, digest="sha256:0", seq=7, accepted_at=AT, subject="#1"
    )
    return Context(header=header(task_id, domain), event=event, data=json(data or {"n": 1}), entity="#1", taint=("/n",))


def plan(task_id: str = "t1", *, rationale: str = "because", steps: tuple[Step, ...] | None = None) -> Plan:
    """A sound plan of two steps, or of ``steps``."""
    if steps is None:
        steps = (
            Step(
                id="s1",
                call=Call(tool="refund", args=json({"cents": 5})),
                effect_key=canonical.effect_key(task_id, "s1"),
            ),
            Step(
                id="s2",
                call=Call(tool="mail", args=json({})),
                effect_key=canonical.effect_key(task_id, "s2"),
                needs=("s1",),
                compensation=Call(tool="sorry", args=json({})),
                optional=True,
            ),
        )
    return Plan(
        header=header(task_id),
        playbook="returns",
        playbook_digest="sha256:1",
        digest=plan_digest(task_id, "retail", steps),
        steps=steps,
        rationale=rationale,
        citations=(Citation(fact_id="f1", version=2, scope="shop", score=0.5),),
        readings=(Reading(name="order", call=Call(tool="order", args=json({})), answer=json({"a": [1, 2.5, None]})),),
        usage=(Usage(model="m", tokens_in=1, tokens_out=2, cost_micro_usd=3),),
        notes=("mind this",),
    )


def effect(task_id: str = "t1", step: str = "s1", *, epoch: int = 1, executor: str = "executor/one") -> Effect:
    """An effect that is about to be dispatched."""
    return Effect(
        header=header(task_id),
        step=step,
        tool="refund",
        key=canonical.effect_key(task_id, step),
        epoch=epoch,
        executor=executor,
        call_by=AT,
        permit="p1",
    )


def result(task_id: str = "t1", step: str = "s1", *, output: Any = 1) -> Result:
    """What a tool answered."""
    return Result(
        header=header(task_id),
        step=step,
        tool="refund",
        key=canonical.effect_key(task_id, step),
        epoch=1,
        status=ResultStatus.SUCCEEDED,
        output=json(output),
        duration_ms=1.25,
    )


def lesson(task_id: str = "t1", *, status: str = "completed", name: str = "-") -> Lesson:
    """What was learned of a task."""
    return Lesson(header=header(task_id), name=name, playbook="returns", status=status, tools=("refund",))


def prompt(task_id: str = "t1") -> Prompt:
    """A question to a model."""
    return Prompt(
        header=header(task_id),
        name="extract~2",
        role=ModelRole.EXTRACT,
        file="shop.extract",
        digest="sha256:5",
        system="Read the message.",
        user='{"message":"please return it"}',
        schema=json({"type": "object"}),
        chain=(Tier.SMALL, Tier.LARGE),
        reason="the small model first",
        max_tokens=64,
        sample=1,
        mode=Mode.BATCH,
        answer_by=AT,
        readings=(Reading(name="order", call=Call(tool="look", args=json({"id": 1})), answer=json({"paid": 5})),),
    )


def completion(task_id: str = "t1") -> Completion:
    """A model's answer."""
    return Completion(
        header=header(task_id),
        name="extract~2",
        status=CompletionStatus.ANSWERED,
        model="small-1",
        output=json({"order": "o1"}),
        text="so be it",
        reason="the first was busy",
        usage=(
            Usage(
                model="small-1",
                tokens_in=9,
                tokens_out=3,
                cost_micro_usd=12,
                tokens_cached=4,
                tokens_written=5,
                mode=Mode.BATCH,
                prices="2026-11-01",
                certain=False,
            ),
        ),
        reused="task.completion.shop.t0.extract",
        batch="msgbatch_1",
        duration_ms=12.5,
    )


def one_of_each(task_id: str = "t1") -> tuple[AnyRecord, ...]:
    """A record of each kind, no field left at its default."""
    statement = Statement(
        task_id=task_id,
        plan_digest="sha256:2",
        purpose=Purpose.PLAN,
        word=Word.APPROVE,
        role="manager",
        person="ann",
        nonce="n1",
        at=AT,
        expires_at=AT,
        comment="yes",
    )
    verdict = StepVerdict(
        step="s1",
        verdict=Verdict.NEEDS_APPROVAL,
        policies=("cap",),
        reasons=("more than 500",),
        roles=("manager",),
        obligations=(Obligation(name="notify", value="ann"),),
    )
    return (
        context(task_id),
        prompt(task_id),
        completion(task_id),
        plan(task_id),
        Decision(
            header=header(task_id),
            phase=Phase.PROPOSE,
            verdict=Verdict.NEEDS_APPROVAL,
            plan_digest="sha256:2",
            bundle="sha256:3",
            steps=(verdict,),
            sheets=(FactSheet(step="s1", facts=json({"paid": 5}), amount=5),),
            reason="a person must see it",
            approve_by=AT,
            signed=json({"payload": "x"}),
        ),
        Approval(header=header(task_id), statement=statement, signed=json({"payload": "y"})),
        effect(task_id),
        result(task_id),
        Outcome(
            header=header(task_id),
            status=OutcomeStatus.COMPLETED,
            reason="done",
            playbook="returns",
            tools=("refund",),
            amount=5,
            times=(StageTime(stage="plan", ms=1.5),),
        ),
        lesson(task_id),
    )
