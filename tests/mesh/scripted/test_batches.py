"""Batches take their time, answer in any order, and are billed as far as they came."""

import asyncio
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from mesh.scripted.conversations import Turn
from mesh.scripted.server import ScriptedModel
from tests.mesh.scripted.asking import RETURN, asking, params, says

SLOW = says(Turn(answer=RETURN, delay_s=60), user="slow")
QUICK = says(Turn(answer=RETURN))


def requests(*users: str) -> Any:
    return [{"custom_id": f"task-{number}", "params": params(user)} for number, user in enumerate(users)]


async def until_ended(client: AsyncAnthropic, batch: MessageBatch) -> MessageBatch:
    while batch.processing_status != "ended":
        await asyncio.sleep(0.02)
        batch = await client.messages.batches.retrieve(batch.id)
    return batch


async def results(client: AsyncAnthropic, batch_id: str) -> dict[str, MessageBatchIndividualResponse]:
    return {each.custom_id: each async for each in await client.messages.batches.results(batch_id)}


def kinds(found: dict[str, MessageBatchIndividualResponse]) -> dict[str, str]:
    return {custom_id: each.result.type for custom_id, each in sorted(found.items())}


async def test_a_batch_is_processed_later_and_each_item_comes_to_its_own_end() -> None:
    bad: Any = {"custom_id": "bad", "params": params() | {"max_tokens": 0}}
    failing = says(Turn(status=529), user="overload")
    async with asking(failing, QUICK) as (client, server):
        batch = await client.messages.batches.create(requests=[*requests("one", "overload", "two"), bad])
        assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == ("in_progress", 4, None)
        assert server.calls == []
        with pytest.raises(anthropic.AnthropicError, match="results_url"):
            await client.messages.batches.results(batch.id)
        ended = await until_ended(client, batch)
        assert (ended.request_counts.succeeded, ended.request_counts.errored) == (2, 2)
        found = await results(client, batch.id)
    assert kinds(found) == {"bad": "errored", "task-0": "succeeded", "task-1": "errored", "task-2": "succeeded"}
    assert found["task-1"].result.type == "errored"
    assert found["task-1"].result.error.error.type == "overloaded_error"
    assert found["task-0"].result.type == "succeeded"
    assert found["task-0"].result.message.usage.service_tier == "batch"
    assert sorted((call.custom_id, call.service) for call in server.billed) == [
        ("task-0", "batch"),
        ("task-2", "batch"),
    ]


async def test_a_cancelled_batch_keeps_what_was_done_and_only_that_is_billed() -> None:
    async with asking(SLOW, QUICK) as (client, server):
        batch = await client.messages.batches.create(requests=requests("quick", "slow"))
        await until_billed(server, 1)
        cancelled = await client.messages.batches.cancel(batch.id)
        assert cancelled.processing_status == "canceling"
        await until_ended(client, cancelled)
        assert kinds(await results(client, batch.id)) == {"task-0": "succeeded", "task-1": "canceled"}
    assert [call.custom_id for call in server.billed] == ["task-0"]


async def test_what_takes_longer_than_the_batch_may_expires_unbilled() -> None:
    async with asking(SLOW, QUICK, batch_expires_s=0.3) as (client, server):
        batch = await until_ended(client, await client.messages.batches.create(requests=requests("quick", "slow")))
        assert batch.request_counts.expired == 1
        assert kinds(await results(client, batch.id)) == {"task-0": "succeeded", "task-1": "expired"}
    assert [call.custom_id for call in server.billed] == ["task-0"]


async def test_batches_are_listed_newest_first_page_by_page() -> None:
    async with asking(QUICK) as (client, _):
        made = [(await client.messages.batches.create(requests=requests("one"))).id for _ in range(5)]
        page = await client.messages.batches.list(limit=2)
        assert ([each.id for each in page.data], page.has_more) == (made[:2:-1], True)
        assert [each.id async for each in client.messages.batches.list(limit=2)] == made[::-1]
        before = await client.messages.batches.list(before_id=made[0], limit=2)
        assert [each.id for each in before.data] == [made[2], made[1]]


async def test_an_answer_to_the_creation_can_be_lost_and_the_batch_is_there() -> None:
    lost = says(Turn(disconnect="after", times=1), path="/v1/messages/batches")
    async with asking(lost, QUICK) as (client, server):
        with pytest.raises(anthropic.APIConnectionError):
            await client.messages.batches.create(requests=requests("one"))
        (found,) = [each async for each in client.messages.batches.list()]
        await until_ended(client, found)
        assert [call.custom_id for call in server.billed] == ["task-0"]
        assert (await client.messages.batches.delete(found.id)).id == found.id
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.batches.retrieve(found.id)


async def test_ids_that_are_no_ids_or_occur_twice_are_refused() -> None:
    async with asking(QUICK) as (client, _):
        twice = requests("one") + requests("two")
        wrong: Any
        for wrong in ([], twice, [{"custom_id": "a b", "params": params()}]):
            with pytest.raises(anthropic.BadRequestError):
                await client.messages.batches.create(requests=wrong)


async def until_billed(server: ScriptedModel, count: int) -> None:
    async with asyncio.timeout(10):
        while len(server.billed) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
