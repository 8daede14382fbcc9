"""A text understood apart from bus and systems, and a task on record read again: by its own answers, and by a model."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agents.planner.apart import texts_apart
from agents.planner.cases import Case, fault_of, load_cases
from agents.planner.place import FIRST
from agents.planner.reading import Asked
from agents.planner.rehearsing import Rehearsed, rehearse
from agents.planner.replay import replay
from agents.planner.replay_by_model import answered
from mesh.canonical import task_id
from mesh.clock import now
from mesh.journal import Stored
from mesh.messages import messages_api
from mesh.record import Json
from mesh.records import AnyRecord, Causation, Completion, Context, Event, Header, Plan, Prompt
from mesh.replay import Recorded
from mesh.scripted.conversations import Conversation, Turn, When
from mesh.scripted.server import Source, scripted_model
from mesh.settings import ModelSettings
from packs.retail.events import MESSAGE
from packs.retail.pack import pack

SAMPLE = Path(__file__).parents[3] / "packs" / "retail" / "sample"
CASES = load_cases(Path(__file__).parents[3] / "packs" / "retail" / "prompts" / "cases")
MODEL = "claude-haiku-5-5"


def context_of(case: Case) -> Context:
    """The case as perception would have it."""
    at = now()
    source = Causation(stream="EVENTS", subject=f"event.{MESSAGE}", seq=1)
    header = Header(
        task_id=task_id("/cases", case.case), domain="retail", causation=source, writer="perception/1", at=at
    )
    event = Event(id=case.case, source="/cases", type=MESSAGE, time=None, digest="sha256:1", seq=1, accepted_at=at)
    data = msgspec.Raw(msgspec.json.encode(case.data))
    return Context(header=header, event=event, data=data, entity=case.case, taint=("/message",))


async def rehearsed(case: Case, *said: Source) -> Rehearsed:
    def on_record(tool: str, _: Json) -> Json | None:
        return msgspec.Raw(msgspec.json.encode(case.reads[tool])) if tool in case.reads else None

    async with scripted_model([*said, SAMPLE / "conversations.yaml"]) as server:
        settings = ModelSettings(base_url=server.url)
        async with messages_api(settings, {"ANTHROPIC_API_KEY": "scripted"}) as messages:

            async def answer(prompt: Prompt) -> Completion:
                return await answered(messages, prompt, MODEL, settings)

            return await rehearse(texts_apart(pack, on_record), context_of(case), answer)


def on_record(case: Case, done: Rehearsed) -> list[Stored]:
    """The task as the journal would have it."""
    records: list[AnyRecord] = [context_of(case)]
    for asked in done.exchange.values():
        records += [asked.prompt, *([asked.completion] if asked.completion else [])]
    return [Stored(n, "", now(), record) for n, record in enumerate([*records, done.plan], 1)]


@pytest.mark.parametrize("case", CASES, ids=[case.case for case in CASES])
async def test_each_case_comes_out_as_it_must_and_the_same_from_the_record(case: Case) -> None:
    done = await rehearsed(case)
    assert fault_of(case.expect, done.plan) == ""
    again = replay(Recorded(on_record(case, done)))
    assert (again.records, again.differences) == (1, ()), again.unknown


async def test_a_record_that_was_changed_is_read_otherwise() -> None:
    case = next(case for case in CASES if case.expect.steps)
    done = await rehearsed(case)
    items = on_record(case, done)
    plan = items[-1].record
    assert isinstance(plan, Plan)
    other = msgspec.structs.replace(plan, rationale="because I say so")
    again = replay(Recorded([*items[:-1], Stored(99, "", now(), other)]))
    assert [difference.field for difference in again.differences] == ["rationale"]


def test_another_model_is_asked_what_models_were_asked_and_the_plans_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = next(case for case in CASES if case.case == "An order by mistake")
    done = asyncio.run(rehearsed(case))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "scripted")
    refuses = Conversation(
        conversation="another opinion",
        when=When(model="claude-opus-*", asks="reason"),
        says=(Turn(answer={"reason": "no longer needed", "missing": ""}),),
    )

    def by(model: str) -> tuple[str, ...]:
        async def serve() -> tuple[str, ...]:
            async with scripted_model([refuses, SAMPLE / "conversations.yaml"]) as server:
                recorded = Recorded(on_record(case, done), model=model, models=ModelSettings(base_url=server.url))
                found = await asyncio.to_thread(replay, recorded)
                return (*(difference.field for difference in found.differences), found.unknown)

        return asyncio.run(serve())

    assert by("claude-sonnet-5-5") == ("",)
    field, unknown = by("claude-opus-5-5")
    assert field == "understood"
    assert "not on record" in unknown


async def test_a_judgement_counts_for_the_very_steps_that_the_judge_was_shown() -> None:
    case = next(case for case in CASES if case.case == "A kayak that is no longer needed")
    done = await rehearsed(case)
    assert done.plan.notes[-1].startswith("retail.judge agrees")
    asked = done.exchange["judge"]
    shown = msgspec.json.decode(asked.prompt.user)
    shown["steps"][0]["args"]["expect_amount"] += 1
    other = msgspec.structs.replace(asked.prompt, user=msgspec.json.encode(shown).decode())
    exchange = {**done.exchange, "judge": Asked(other, asked.completion)}

    def on_record(tool: str, _: Json) -> Json | None:
        return msgspec.Raw(msgspec.json.encode(case.reads[tool])) if tool in case.reads else None

    context = context_of(case)
    [plan] = await texts_apart(pack, on_record).next(context, context.header, FIRST, exchange)
    assert isinstance(plan, Plan)
    assert plan.rationale == "the plan changed while it was judged"
    assert plan.candidates[0].steps == done.plan.steps
