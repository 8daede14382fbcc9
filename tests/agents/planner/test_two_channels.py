"""One request that comes by two channels is one case: carried out once, and the other says where."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mesh.canonical import task_id
from mesh.records import Context, Outcome, OutcomeStatus, Plan
from tests.console.conftest import WORKMESH
from tests.crash.test_halts import workmesh
from tests.ledger_pack.world import SOURCE, World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

MAIL = "intake/mail"
__all__ = ["WORKMESH"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A whole site but the learner."""
    async with (
        world_in(tmp_path_factory.mktemp("w")) as found,
        found.roles("perception", "planner", "policy", "executor"),
    ):
        yield found


async def sent(world: World, event_id: str, source: str = SOURCE, **data: Any) -> str:
    """Publish an entry from a source; its task."""
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": "ledger.entry.requested",
        "data": {"account": "two", "amount": 7, "kind": "post", **data},
    }
    await world.publish_bytes(msgspec.json.encode(event))
    return task_id(source, event_id)


async def ended(world: World, task: str) -> tuple[Context, Plan, Outcome]:
    """The records of a task that has ended."""
    outcome = await world.outcome(task)
    context, plan = [(await world.record(kind, task)).record for kind in ("context", "plan")]
    assert isinstance(context, Context)
    assert isinstance(plan, Plan)
    return context, plan, outcome


async def test_the_same_request_by_mail_and_form_is_carried_out_once(world: World) -> None:
    form = await sent(world, "form-1", memo="case:a1 by the form")
    mail = await sent(world, "mail-1", MAIL, memo="Hello! case:a1 Please do enter it. Urgent!")
    assert (await world.outcome(form)).status is OutcomeStatus.COMPLETED
    context, plan, outcome = await ended(world, mail)
    assert (context.case, context.earlier, context.urgency) == ("a1", (form,), "high")
    assert (plan.repeats, plan.steps) == (form, ())
    assert outcome.status in (OutcomeStatus.REFUSED, OutcomeStatus.DENIED)
    assert outcome.reason == f"the same request came before by {SOURCE}, and is task {form}"
    assert len(world.applied(form)) == 1
    assert world.applied(mail) == []
    replayed = await workmesh(world, "replay", mail)
    assert {stage["stage"]: stage["differences"] for stage in replayed} == {"planner": [], "policy": []}


async def test_a_found_place_says_where_in_the_text_it_stands(world: World) -> None:
    memo = "Guten Tag, bitte case:umlaut buchen, für die Prüfung. Danke!"
    context, _, _ = await ended(world, await sent(world, "found-1", memo=memo))
    data = msgspec.json.decode(context.data)
    found = {each.name: each for each in context.found}
    place = found["case"]
    assert data["memo"][place.start : place.end] == place.value == "umlaut"
    assert (place.pointer, place.confidence) == ("/memo", 1.0)
    assert found["language"].value == "de"
    assert found["language"].confidence > 0.7
    assert context.taint == ("/memo",)


async def test_what_differs_in_more_than_words_is_another_request(world: World) -> None:
    form = await sent(world, "form-2", memo="case:b2")
    other = await sent(world, "mail-2", MAIL, memo="case:b2", amount=8)
    context, plan, outcome = await ended(world, other)
    assert (context.earlier, plan.repeats, outcome.status) == ((form,), "", OutcomeStatus.COMPLETED)
    assert (await world.outcome(form)).status is OutcomeStatus.COMPLETED


async def test_the_same_twice_by_one_channel_is_two_requests(world: World) -> None:
    tasks = [await sent(world, f"form-3-{number}", memo="case:c3") for number in range(2)]
    for task in tasks:
        context, _, outcome = await ended(world, task)
        assert (context.earlier, outcome.status) == ((), OutcomeStatus.COMPLETED)


async def test_a_request_that_failed_is_asked_for_anew(world: World) -> None:
    world.freeze("frozen")
    form = await sent(world, "form-4", memo="case:d4", account="frozen")
    before = await world.outcome(form)
    assert before.status is not OutcomeStatus.COMPLETED
    _, plan, _ = await ended(world, await sent(world, "mail-4", MAIL, memo="case:d4", account="frozen"))
    assert plan.repeats == ""


async def test_what_comes_later_waits_for_the_plan_of_what_came_first(world: World) -> None:
    held = world.folder / "first-goes-on"
    once = world.folder / "first.once"
    async with world.role("perception", "2", fault=f"perception.before_handling=hold:{held}@{once}"):
        # Whichever copy of perception the first goes to, one of these is held back while the others go on.
        tasks = [await sent(world, f"{name}-5", f"/{name}", memo="case:e5") for name in ("one", "two", "three")]
        await asyncio.sleep(1.5)
        held.touch()
        ends = [await ended(world, task) for task in tasks]
    done = [plan.header.task_id for _, plan, outcome in ends if outcome.status is OutcomeStatus.COMPLETED]
    assert done == tasks[:1]
    assert [plan.repeats for _, plan, _ in ends] == ["", tasks[0], tasks[0]]
