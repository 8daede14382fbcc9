"""Any stage killed between its commit and its ack: the input comes again, finds its output there, and is done."""

from pathlib import Path

import pytest

from mesh.errors import BusUnavailableError
from mesh.records import OutcomeStatus, Word
from mesh.service import ServiceError
from tests.ledger_pack.world import world_in

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

STAGES = ("perception", "planner", "policy", "executor")
KINDS = ("context", "plan", "decision", "effect", "result", "outcome")


async def test_each_stage_killed_before_its_ack_has_written_each_record_once(tmp_path: Path) -> None:
    faults = ",".join(f"{stage}.before_ack=kill@{tmp_path / stage}" for stage in STAGES)
    async with world_in(tmp_path) as world, world.roles(*STAGES, env={"WORKMESH_FAULTPOINT": faults}) as running:
        task = await world.publish("killed")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        for each in running:
            await each.died()
        for stage in STAGES[1:]:
            await world.settled(stage)
        assert {kind: await world.count(kind, task) for kind in KINDS} == dict.fromkeys(KINDS, 1)
        assert len(world.applied(task)) == 1


async def test_policy_killed_after_a_word_has_recorded_it_once(tmp_path: Path) -> None:
    fault = f"policy.after_word=kill@{tmp_path / 'word'}"
    async with world_in(tmp_path, "perception", "planner", "executor") as world:
        async with world.role("policy", fault=fault) as policy:
            task = await world.publish("large", amount=20_000)
            await world.waits(task)
            with pytest.raises(BusUnavailableError):
                await world.say(task, Word.APPROVE)
            await policy.died()
            with pytest.raises(ServiceError, match="does not wait"):
                await world.say(task, Word.APPROVE)
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            assert [await world.count(kind, task) for kind in ("approval", "decision")] == [1, 2]
            assert world.applied(task) == [("post", f"wm-{task}-enter", 20_000)]
