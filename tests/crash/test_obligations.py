"""Obligations on a running site: told once however often the executor dies, hidden before anything is kept."""

import json
from typing import Any

import pytest

from mesh.records import OutcomeStatus, Purpose, ResultStatus, Word
from tests.ledger_pack.world import World
from tests.mesh.test_notices import Receiver
from tests.mesh.test_notices import receiver as receiver

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

TOLD, SEALED, RECEIPTED, IN_VAIN = 7771, 7772, 7773, 7774


def notices(world: World, task: str) -> list[dict[str, Any]]:
    """The notices of a task in the site's folder."""
    paths = (world.folder / "state" / "notices").glob(f"wm-{task}-*")
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize("point", ["before_notice", "after_notice", "after_checkpoint#2", "after_outcome"])
async def test_an_executor_killed_around_a_notice_tells_once(world: World, point: str) -> None:
    name, _, nth = point.partition("#")
    once = world.folder / f"told.{name}"
    fault = f"executor.{name}=kill{f'#{nth}' if nth else ''}@{once}"
    async with world.role("executor", fault=fault) as executor:
        task = await world.publish(f"told-{name}", amount=TOLD)
        await executor.died()
        ending = await world.outcome(task)
        await world.settled("executor")
    assert (ending.status, ending.reason) == (OutcomeStatus.COMPLETED, "")
    (event,) = notices(world, task)
    assert event["id"] == f"wm-{task}-enter~notify"
    assert event["data"] == {
        "who": "treasury", "task_id": task, "domain": "ledger", "step": "enter", "tool": "ledger.post",
        "amount": TOLD, "currency": "USD", "policies": event["data"]["policies"],
    }  # fmt: skip
    assert "told" in event["data"]["policies"]
    assert len(world.applied(task)) == 1
    assert (await world.result(task, "enter~notify")).status is ResultStatus.SUCCEEDED


async def test_a_notice_to_a_url_is_told_under_one_key_after_a_kill(world: World, receiver: Receiver) -> None:
    once = world.folder / "url.once"
    env = {"WORKMESH_NOTICES__URL": receiver.url}
    async with world.role("executor", fault=f"executor.after_notice=kill@{once}", env=env) as executor:
        task = await world.publish("told-url", amount=TOLD)
        await executor.died()
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert {headers["idempotency-key"] for headers, _ in receiver.heard} == {f"wm-{task}-enter~notify"}
    assert len(receiver.heard) == 2  # the key is what makes it one notice for the receiver


async def test_a_notice_that_is_refused_for_good_undoes_nothing_and_is_said(world: World, receiver: Receiver) -> None:
    receiver.answers = [410]
    async with world.role("executor", env={"WORKMESH_NOTICES__URL": receiver.url}):
        task = await world.publish("untold", amount=TOLD)
        ending = await world.outcome(task)
        await world.settled("executor")
    assert ending.status is OutcomeStatus.COMPLETED
    assert ending.reason == (
        f"obligation not met: treasury was not told of step enter: notices refused wm-{task}-enter~notify: 410"
    )
    assert len(world.applied(task)) == 1 and len(receiver.heard) == 1


async def test_what_is_redacted_is_kept_nowhere(world: World) -> None:
    once = world.folder / "sealed.once"
    async with world.role("executor", fault=f"executor.after_checkpoint=kill@{once}") as executor:
        task = await world.publish("sealed", amount=SEALED, kind="wire")
        await executor.died()
        result = await world.result(task)
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert json.loads(bytes(result.output)) == {"seq": "[redacted]"}


async def test_a_redaction_holds_for_an_answer_that_was_asked_for_after_a_crash(world: World) -> None:
    once = world.folder / "sealed-verified.once"
    async with world.role("executor", fault=f"executor.after_call=kill@{once}") as executor:
        task = await world.publish("sealed-verified", amount=SEALED, kind="transfer")
        await executor.died()
        result = await world.result(task)
        await world.outcome(task)
    assert result.recovered == "verified"
    assert json.loads(bytes(result.output)) == {"seq": "[redacted]"}


@pytest.mark.parametrize("kind", ["post", "transfer", "wire"])
async def test_a_receipt_that_is_there_completes_the_step(world: World, kind: str) -> None:
    async with world.role("executor"):
        task = await world.publish(f"receipted-{kind}", amount=RECEIPTED, kind=kind)
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert await world.count("effect", task) == 1


@pytest.mark.parametrize("kind", ["post", "transfer", "wire"])
async def test_without_its_receipt_a_step_is_in_doubt_and_a_person_is_asked(world: World, kind: str) -> None:
    async with world.role("executor"):
        task = await world.publish(f"in-vain-{kind}", amount=IN_VAIN, kind=kind)
        waiting = await world.waits(task)
        assert waiting.purpose is Purpose.IN_DOUBT
        result = await world.result(task)
        assert f"the answer of ledger.{kind} lacks the receipt at /slip" in result.error
        assert len(world.applied(task)) == 1
        await world.say(task, Word.HAPPENED, "olga", "operator")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1
    assert await world.count("effect", task) == (2 if kind == "post" else 1)
