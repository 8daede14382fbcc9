"""Two people, stand-ins, corrections and stages on a running site."""

import secrets
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from mesh import service
from mesh.approvals import Nothing, Shown, WordAnswer
from mesh.autonomy import Stage, StageLine, StageRequest, StageWord
from mesh.clock import now
from mesh.journal import Journal, Write, committing
from mesh.plans import plan_digest
from mesh.records import Change, OutcomeStatus, Plan, Word
from mesh.service import ServiceError
from mesh.signing import STAGE_TYPE, sign
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

pytestmark = pytest.mark.timeout(240)

BEFORE = ("perception", "planner", "executor")
TWO = """
@id("all") @approval("controller:2") @escalate_after("PT2S") @escalate_to("head")
permit (principal, action == Action::"propose", resource);
@id("all-approved")
permit (principal, action == Action::"execute", resource) when { context.approvals.contains("controller:2") };
"""
AUTONOMY = """
start: propose
approvers: controller
promoters: owner
raise_when: {window: P1D, tasks: 3, override_rate: 0.4, error_rate: 0.1}
lower_when: {window: P1D, tasks: 3, override_rate: 0.4, error_rate: 0.3}
tools: [{tool: ledger.post, approve_above: 500}]
"""


async def test_two_people_must_approve_and_a_stand_in_only_after_the_escalation(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE) as world:
        await world.govern({"ledger.cedar": TWO})
        async with world.role("policy"):
            task = await world.publish("two")
            waiting = await world.waits(task)
            assert (waiting.roles, waiting.stand_ins) == (("controller:2",), ("head",))
            first = await world.say(task, Word.APPROVE)
            assert (first.verdict, first.reason) == ("", "another person must approve too: controller:2")
            with pytest.raises(ServiceError, match="carla has approved this plan already"):
                await world.say(task, Word.APPROVE)
            shown = await world.shown(task)
            assert shown.voices == ("carla (controller)",)
            escalate_at = waiting.escalate_at
            assert escalate_at is not None
            if now() < escalate_at:
                with pytest.raises(ServiceError, match="head may stand in from"):
                    await world.say_on(shown, Word.APPROVE, "hedda", "head")
            await until(lambda: now() > escalate_at)
            assert (await world.say(task, Word.APPROVE, "hedda", "head")).verdict == "allow"
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            assert len(world.applied(task)) == 1


async def correct(world: World, task: str, changes: tuple[Change, ...], person: str = "carla") -> WordAnswer:
    """A person's correction of what is shown now."""
    said = world.statement(await world.shown(task), Word.CORRECT, person, "controller")
    return await world.give(msgspec.structs.replace(said, changes=changes), world.people[person])


def entry(amount: int, account: str = "a") -> msgspec.Raw:
    """Arguments of an entry."""
    return msgspec.Raw(msgspec.json.encode({"account": account, "amount": amount}))


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


async def test_a_corrected_plan_is_decided_anew_and_not_approved_by_who_corrected_it(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE, "policy") as world:
        task = await world.publish("wrong", amount=20_000)
        await world.waits(task)
        before = await world.shown(task)
        for changes, problem in (
            ((), "changes nothing"),
            ((Change(step="enter", args=entry(20_000)),), "leaves the plan as it is"),
            ((Change(step="enter", args=msgspec.Raw(b'{"account":"a"}')),), "does not take these arguments"),
            ((Change(step="enter", args=msgspec.Raw(b'{"account":"a","amount":1,"x":1}')),), "does not take"),
            ((Change(step="other", drop=True),), "no step 'other'"),
            ((Change(step="enter", drop=True),), "nothing would be left"),
        ):
            with pytest.raises(ServiceError, match=problem):
                await correct(world, task, changes)
        answer = await correct(world, task, (Change(step="enter", args=entry(15_000)),))
        assert answer.verdict == "corrected"
        shown = await shown_at(world, task, 1)
        assert shown.plan_digest != before.plan_digest
        assert msgspec.json.decode(shown.steps[0].call.args) == {"account": "a", "amount": 15_000}
        assert shown.notes == ("corrected by carla (controller)",)
        with pytest.raises(ServiceError, match=r"look again"):
            await world.say_on(before, Word.APPROVE, "colin")
        with pytest.raises(ServiceError, match="carla has corrected this plan"):
            await world.say(task, Word.APPROVE)
        assert (await world.say(task, Word.APPROVE, "colin")).verdict == "allow"
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        assert world.applied(task) == [("post", shown.steps[0].effect_key, 15_000)]


async def test_a_correction_that_nobody_signed_is_no_plan(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE, "policy") as world:
        task = await world.publish("forged", amount=20_000)
        await world.waits(task)
        plan = (await world.record("plan", task)).record
        assert isinstance(plan, Plan)
        call = msgspec.structs.replace(plan.steps[0].call, args=entry(5, "thief"))
        steps = (msgspec.structs.replace(plan.steps[0], call=call),)
        digest = plan_digest(task, "ledger", steps)
        forged = msgspec.structs.replace(plan, steps=steps, digest=digest, revision=1)
        async with world.connected("policy") as bus, committing(bus) as committer:
            await Journal(bus, committer).commit(Write(forged))
        item = await world.quarantined("policy", "no person's correction")
        assert item.reason == "dead_letter"
        assert world.applied(account="thief") == []


async def stage_of(world: World) -> StageLine:
    """The stage of the tool that is staged."""
    lines = await service.ask(world.bus, "policy", "stages", Nothing(), list[StageLine], timeout_s=10)
    (line,) = (line for line in lines if line.domain == "ledger")
    return line


async def change_stage(
    world: World, before: Stage, stage: Stage, person: str = "otto", role: str = "owner"
) -> StageLine:
    """A person's word on the stage."""
    word = StageWord(
        domain="ledger",
        tool="ledger.post",
        before=before,
        stage=stage,
        role=role,
        person=person,
        reason="",
        nonce=secrets.token_hex(8),
        at=now(),
        expires_at=now() + timedelta(minutes=5),
    )
    request = StageRequest(signed=sign(word, STAGE_TYPE, world.people[person]))
    return await service.ask(world.bus, "policy", "stage", request, StageLine, timeout_s=10)


async def test_a_tool_goes_up_with_evidence_and_a_word_and_down_by_itself(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE) as world:
        await world.govern({"autonomy.yaml": AUTONOMY})
        async with world.role("policy"):
            await _propose_three(world)
            with pytest.raises(ServiceError, match="has not the role owner"):
                await change_stage(world, Stage.PROPOSE, Stage.SUPERVISED, "carla")
            with pytest.raises(ServiceError, match="goes to supervised, not to autonomous"):
                await change_stage(world, Stage.PROPOSE, Stage.AUTONOMOUS)
            line = await change_stage(world, Stage.PROPOSE, Stage.SUPERVISED)
            assert (line.stage, line.reason) == (Stage.SUPERVISED, "otto (owner)")
            with pytest.raises(ServiceError, match=r"cannot go to autonomous yet: . tasks are too few"):
                await change_stage(world, Stage.SUPERVISED, Stage.AUTONOMOUS)
        async with world.role("policy", instance="new"):  # what was decided is in the journal
            small = await world.publish("small", amount=500)
            assert (await world.outcome(small)).status is OutcomeStatus.COMPLETED
            above = await world.publish("above", amount=501)
            assert (
                "more than 5.00 USD needs approval"
                in (await world.shown(above if await world.waits(above) else "")).steps[0].reasons[-1]
            )
            await world.say(above, Word.REJECT)
            for n in range(2):
                failing = await world.publish(f"fails-{n}", amount=400, account=f"f{n}")
                assert (await world.outcome(failing)).status is OutcomeStatus.COMPLETED
                rejected = await world.publish(f"no-{n}", amount=501)
                await world.waits(rejected)
                await world.say(rejected, Word.REJECT)
            await until(lambda: _is_at(world, Stage.PROPOSE))
            assert "overridden by people" in (await stage_of(world)).reason
            lowered = await world.publish("lowered", amount=1)
            assert (await world.waits(lowered)).roles == ("controller",)


async def _is_at(world: World, stage: Stage) -> bool:
    return (await stage_of(world)).stage is stage


async def _propose_three(world: World) -> None:
    """Three tasks that were approved, though no policy asks for it."""
    for n in range(3):
        task = await world.publish(f"proposed-{n}", amount=10)
        assert (await world.waits(task)).roles == ("controller",)
        if n == 2:
            with pytest.raises(ServiceError, match="2 tasks are too few: 3 are needed"):
                await change_stage(world, Stage.PROPOSE, Stage.SUPERVISED)
        assert (await world.say(task, Word.APPROVE)).verdict == "allow"
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert (await stage_of(world)).evidence.tasks == 3


async def test_what_may_only_be_observed_is_decided_and_not_done(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE) as world:
        await world.govern({"autonomy.yaml": AUTONOMY.replace("start: propose", "start: observe")})
        async with world.role("policy"):
            task = await world.publish("watched", amount=10)
            ending = await world.outcome(task)
            assert ending.status is OutcomeStatus.OBSERVED
            assert ending.reason == "ledger.post may only be observed yet; policy would have said: allow"
            assert world.applied(task) == []
