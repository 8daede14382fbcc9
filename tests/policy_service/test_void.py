"""A plan that cites a fact which changed is not decided on: it is planned anew, and nobody's old word counts for it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from agents.planner.replay import replay as replay_plan
from mesh import service, subjects
from mesh.approvals import Shown
from mesh.errors import TerminalError
from mesh.facts import Claim, Scope, Source, ValueType
from mesh.journal import Journal, Write, committing
from mesh.memory import ChangeAnswer, RememberAnswer, RememberRequest, RetractRequest
from mesh.plans import plan_digest
from mesh.records import Change, Decision, OutcomeStatus, Phase, Plan, Verdict, Word
from mesh.replay import Recorded
from mesh.service import ServiceError
from policy_service.replay import replay as replay_decisions
from policy_service.shelf import contents_of
from tests.ledger_pack.running import installed, until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

LARGE = 20_000
ENV = {"WORKMESH_MEMORY__EMBEDDER": "none"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The whole site."""
    stages = ("perception", "planner", "policy", "executor", "memory")
    async with world_in(tmp_path_factory.mktemp("w"), *stages, env=ENV) as found:
        yield found


async def arrange(world: World, account: str, amount: int) -> str:
    """Have memory know what was arranged for an account; the fact's id."""
    claim = Claim(
        scope=Scope(domain="ledger"),
        subject=f"account/{account}",
        predicate="arranged",
        type=ValueType.INTEGER,
        value=msgspec.Raw(str(amount).encode()),
        source=Source(uri="test"),
    )
    request = RememberRequest(claims=(claim,), by="test")
    answer = await service.ask(world.bus, "memory", "remember", request, RememberAnswer, timeout_s=10)
    return answer.facts[0].fact.id


async def retract(world: World, fact_id: str) -> None:
    """Have memory take a fact back."""
    request = RetractRequest(ids=(fact_id,), by="test", reason="it was a mistake")
    await service.ask(world.bus, "memory", "retract", request, ChangeAnswer, timeout_s=10)


async def publish(world: World, name: str, **data: Any) -> str:
    """A request to enter what was arranged; whether somebody must approve is by the amount that the event says."""
    return await world.publish(name, **{"account": name, "memo": "arranged", "amount": LARGE, **data})


async def shown_at(world: World, task: str, revision: int) -> Shown:
    """What is shown once a revision waits."""
    found: list[Shown] = []

    async def is_there() -> bool:
        try:
            shown = await world.shown(task)
        except ServiceError:
            return False
        found.extend([shown] if shown.revision == revision else [])
        return bool(found)

    await until(is_there)
    return found[0]


async def plans(world: World, task: str) -> dict[str, Plan]:
    """The plans of a task, by their token."""
    items = [item.record for item in await world.journal.task(task)]
    return {plan.token: plan for plan in items if isinstance(plan, Plan)}


async def decisions(world: World, task: str) -> list[tuple[str, Verdict, bool]]:
    """The decisions on a task in order: token, verdict, and whether the plan was void."""
    items = [item.record for item in await world.journal.task(task)]
    return [(each.token, each.verdict, bool(each.void)) for each in items if isinstance(each, Decision)]


async def test_a_fact_that_changes_between_plan_and_approval_has_it_planned_anew(world: World) -> None:
    fact = await arrange(world, "moved", LARGE)
    task = await publish(world, "moved")
    await world.waits(task)
    before = await world.shown(task)
    await arrange(world, "moved", 15_000)
    answer = await world.say_on(before, Word.APPROVE)
    assert answer.verdict == "void"
    assert answer.reason.startswith(f"void: fact {fact} that the plan cites is superseded now")
    assert answer.reason.endswith("; it is planned anew")
    shown = await shown_at(world, task, 1)
    assert world.applied(task) == []
    assert msgspec.json.decode(shown.steps[0].call.args) == {"account": "moved", "amount": 15_000}
    assert shown.notes[0].startswith(f"planned anew: void: fact {fact}")
    with pytest.raises(ServiceError, match="look again"):
        await world.say_on(before, Word.APPROVE)
    assert world.applied(task) == []
    assert (await world.say_on(shown, Word.APPROVE, "colin")).verdict == "allow"
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert world.applied(task) == [("post", shown.steps[0].effect_key, 15_000)]
    assert await decisions(world, task) == [
        ("-", Verdict.NEEDS_APPROVAL, False),
        ("execute", Verdict.DENY, True),
        ("r1", Verdict.NEEDS_APPROVAL, False),
        ("r1~execute", Verdict.ALLOW, False),
    ]
    assert list(await plans(world, task)) == ["-", "v1"]
    await _made_again_it_is_the_same(world, task)


async def _made_again_it_is_the_same(world: World, task: str) -> None:
    """From the journal alone: the last plan, and the decisions that were weighed."""
    items = await world.journal.task(task)
    async with world.connected("admin") as bus:
        bundles = [msgspec.Raw(msgspec.json.encode(await contents_of(bus, "ledger", (await live_bundle(world, task)))))]
    with installed():
        planned, decided = replay_plan(Recorded(items, bundles)), replay_decisions(Recorded(items, bundles))
    assert (planned.records, planned.differences) == (1, ())
    assert (decided.records, decided.differences) == (3, ())


async def live_bundle(world: World, task: str) -> str:
    """The bundle that a task was decided under."""
    return (await _decided(world, task))[0].bundle


async def test_the_same_steps_made_anew_are_another_plan_that_no_old_word_is_about(world: World) -> None:
    """The fact is taken back, and the event says the same amount: step for step the plan is as it was."""
    fact = await arrange(world, "same", LARGE)
    task = await publish(world, "same", amount=LARGE)
    await world.waits(task)
    old = world.statement(await world.shown(task), Word.APPROVE, "carla", "controller")
    await retract(world, fact)
    assert (await world.give(old, world.people["carla"])).verdict == "void"
    shown = await shown_at(world, task, 1)
    found = await plans(world, task)
    assert found["-"].steps == found["v1"].steps
    assert found["-"].digest != found["v1"].digest == shown.plan_digest
    assert shown.voices == ()
    with pytest.raises(ServiceError, match="look again"):
        await world.give(old, world.people["carla"])
    assert (await world.say_on(shown, Word.APPROVE)).verdict == "allow"
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED


async def test_a_customer_is_denied_only_after_three_plans_made_anew(world: World) -> None:
    await arrange(world, "restless", LARGE)
    task = await publish(world, "restless")
    for revision in range(4):
        shown = await shown_at(world, task, revision)
        await arrange(world, "restless", LARGE + 1 + revision)
        answer = await world.say_on(shown, Word.APPROVE)
        assert answer.verdict == "void"
    assert answer.reason.endswith("the task is denied")
    ending = await world.outcome(task)
    assert ending.status is OutcomeStatus.DENIED
    assert ending.reason.startswith("void: fact ")
    assert ending.reason.endswith("it was planned anew 3 times before")
    assert list(await plans(world, task)) == ["-", "v1", "v2", "v3"]
    assert world.applied(task) == []


async def test_a_persons_correction_is_not_thrown_away_for_another_plan(world: World) -> None:
    await arrange(world, "mended", LARGE)
    task = await publish(world, "mended")
    await world.waits(task)
    said = world.statement(await world.shown(task), Word.CORRECT, "carla", "controller")
    args = msgspec.Raw(msgspec.json.encode({"account": "mended", "amount": 12_000}))
    said = msgspec.structs.replace(said, changes=(Change(step="enter", args=args),))
    assert (await world.give(said, world.people["carla"])).verdict == "corrected"
    shown = await shown_at(world, task, 1)
    await arrange(world, "mended", LARGE + 1)
    answer = await world.say_on(shown, Word.APPROVE, "colin")
    assert (answer.verdict, answer.reason.endswith("the task is denied")) == ("void", True)
    ending = await world.outcome(task)
    assert ending.status is OutcomeStatus.DENIED
    assert ending.reason.endswith("a plan that a person corrected is not made anew")
    assert world.applied(task) == []


async def test_a_correction_of_a_plan_made_anew_is_carried_out(world: World) -> None:
    await arrange(world, "both", LARGE)
    task = await publish(world, "both")
    first = await shown_at(world, task, 0)
    await arrange(world, "both", 15_000)
    await world.say_on(first, Word.APPROVE)
    said = world.statement(await shown_at(world, task, 1), Word.CORRECT, "carla", "controller")
    args = msgspec.Raw(msgspec.json.encode({"account": "both", "amount": 12_000}))
    said = msgspec.structs.replace(said, changes=(Change(step="enter", args=args),))
    assert (await world.give(said, world.people["carla"])).verdict == "corrected"
    shown = await shown_at(world, task, 2)
    assert (await world.say_on(shown, Word.APPROVE, "colin")).verdict == "allow"
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert [amount for _, _, amount in world.applied(task)] == [12_000]
    assert list(await plans(world, task)) == ["-", "v1", "r2"]


async def test_a_refusal_that_rests_on_a_changed_fact_is_planned_anew_too(tmp_path: Path) -> None:
    async with world_in(tmp_path, "perception", "planner", "executor", "memory", env=ENV) as world:
        await arrange(world, "refused", -1)
        task = await publish(world, "refused", amount=3)
        plan = (await world.record("plan", task)).record
        assert isinstance(plan, Plan)
        assert plan.refusal == "no entry was arranged"
        await arrange(world, "refused", 7)
        async with world.role("policy"):
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        assert [amount for _, _, amount in world.applied(task)] == [7]
        assert await decisions(world, task) == [("-", Verdict.DENY, True), ("r1", Verdict.ALLOW, False)]


@pytest.mark.parametrize(
    ("role", "point"),
    [("policy", "policy.before_commit"), ("policy", "policy.before_ack"), ("planner", "planner.before_ack")],
)
async def test_killed_at_any_moment_it_is_planned_anew_once(tmp_path: Path, role: str, point: str) -> None:
    others = {"perception", "executor", "memory"}
    async with world_in(tmp_path, *others, env=ENV) as world:
        await arrange(world, "killed", 9)
        async with world.role("planner"):
            task = await publish(world, "killed", amount=3)
            await world.record("plan", task)
            await world.settled("planner")
        await arrange(world, "killed", 7)
        faults = {role: f"{point}=kill@{tmp_path / 'once'}"}
        async with (
            world.role("planner", fault=faults.get("planner", "")),
            world.role("policy", fault=faults.get("policy", "")),
        ):
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            await world.settled("policy")
            await world.settled("planner")
        assert (tmp_path / "once").exists()
        assert [amount for _, _, amount in world.applied(task)] == [7]
        assert [await world.count(kind, task) for kind in ("plan", "decision", "outcome")] == [2, 2, 1]


async def test_without_memory_a_plan_that_cites_waits_and_others_do_not(tmp_path: Path) -> None:
    async with world_in(tmp_path, "perception", "planner", "executor", env=ENV) as world:
        async with world.role("memory"):
            await arrange(world, "waiting", LARGE)
            citing = await publish(world, "waiting")
            await world.record("plan", citing)
            changed = await publish(world, "fine", amount=3)
            await world.record("plan", changed)
        async with world.role("policy") as policy:
            plain = await world.publish("plain", amount=3)
            for task in (plain, changed):
                assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            told = [line for line in policy.log() if line["event"] == "decisions_wait_for_memory"]
            assert [line["task_id"] for line in told[:1]] == [citing]
            assert await decisions(world, citing) == []
            async with world.role("memory"):
                await world.waits(citing)
            shown = await world.shown(citing)
            with pytest.raises(ServiceError, match="memory does not answer"):
                await world.say_on(shown, Word.APPROVE)
            assert await world.count("approval", citing) == 0
            async with world.role("memory"):
                assert (await world.say_on(shown, Word.APPROVE)).verdict == "allow"
                assert (await world.outcome(citing)).status is OutcomeStatus.COMPLETED


async def test_a_planner_that_is_cut_off_from_memory_goes_on_with_what_it_has_and_its_plan_says_so(
    tmp_path: Path,
) -> None:
    async with world_in(
        tmp_path, "perception", "planner", "executor", env=ENV | {"WORKMESH_RECALL__FRESH_S": "0.05"}
    ) as world:
        async with world.role("memory"):
            fact = await arrange(world, "far", 5)
            first = await world.publish("first", account="far", memo="arranged", amount=3)
            await world.record("plan", first)
            await arrange(world, "far", 6)
            second = await world.publish("second", account="far", memo="arranged", amount=3)
            plan = (await world.record("plan", second)).record
            assert isinstance(plan, Plan)
            assert (msgspec.json.decode(plan.steps[0].call.args)["amount"], plan.notes) == (6, ())
            assert plan.citations[0].fact_id != fact
        third = await world.publish("third", account="far", memo="arranged", amount=3)
        plan = (await world.record("plan", third)).record
        assert isinstance(plan, Plan)
        assert msgspec.json.decode(plan.steps[0].call.args)["amount"] == 6
        (note,) = plan.notes
        assert note.startswith("memory did not answer (") and "; facts as of 2" in note
        fourth = await world.publish("fourth", account="unknown", memo="arranged", amount=3)
        plan = (await world.record("plan", fourth)).record
        assert isinstance(plan, Plan)
        assert plan.citations == ()
        assert plan.notes[0].startswith("planned without memory of account/unknown: ")


async def test_a_planner_cannot_take_back_its_own_plan(world: World) -> None:
    task = await world.publish("own", amount=LARGE)
    await world.waits(task)
    plan = (await plans(world, task))["-"]
    args = msgspec.Raw(b'{"account":"thief","amount":5}')
    steps = (msgspec.structs.replace(plan.steps[0], call=msgspec.structs.replace(plan.steps[0].call, args=args)),)
    digest = plan_digest(task, "ledger", steps, 1)
    forged = msgspec.structs.replace(plan, steps=steps, digest=digest, revision=1, anew=True)
    async with world.connected("planner") as bus, committing(bus) as committer:
        journal = Journal(bus, committer)
        await journal.commit(Write(forged))
        corrected = msgspec.structs.replace(forged, anew=False)
        with pytest.raises(TerminalError, match="may not publish"):
            await journal.commit(Write(corrected))
        with pytest.raises(TerminalError, match="may not publish"):
            await journal.commit(Write(msgspec.structs.replace(forged, revision=4)))
    item = await world.quarantined("policy", "nobody declared the plan void")
    assert item.subject == subjects.of(forged)
    assert (await world.shown(task)).plan_digest == plan.digest
    assert (await world.say(task, Word.APPROVE)).verdict == "allow"
    ending = await world.outcome(task)
    assert (ending.status, world.applied(account="thief")) == (OutcomeStatus.COMPLETED, [])
    assert [each.phase for each in await _decided(world, task)] == [Phase.PROPOSE, Phase.EXECUTE]


async def _decided(world: World, task: str) -> list[Decision]:
    return [item.record for item in await world.journal.task(task) if isinstance(item.record, Decision)]
