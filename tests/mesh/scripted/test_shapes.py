"""Every body has the shape that the official client declares; it does not check that itself."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from mesh.scripted.conversations import Turn
from mesh.scripted.provider import Terms
from mesh.scripted.server import scripted_model
from tests.mesh.scripted.asking import RETURN, SMALL, params, says

HEADERS = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


async def test_messages_counts_models_and_streams() -> None:
    turns = (
        Turn(answer=RETURN, text="So."),
        Turn(refusal="no"),
        Turn(text="half", truncated=True),
        Turn(answer=RETURN),
    )
    async with (
        scripted_model([says(*turns, model=SMALL)]) as server,
        httpx2.AsyncClient(base_url=server.url, headers=HEADERS) as http,
    ):
        for _ in range(3):
            Message.model_validate_json((await http.post("/v1/messages", json=params())).content, strict=True)
        counted = await http.post("/v1/messages/count_tokens", json=params())
        MessageTokensCount.model_validate_json(counted.content, strict=True)
        (model,) = (await http.get("/v1/models")).json()["data"]
        assert ModelInfo.model_validate(model).id == SMALL
        assert ModelInfo.model_validate_json((await http.get(f"/v1/models/{SMALL}")).content).id == SMALL
        stream = (await http.post("/v1/messages", json=params(stream=True))).text
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    parsed = [EVENT.validate_json(event) for event in events if json.loads(event)["type"] != "ping"]
    assert [parsed[0].type, parsed[-1].type] == ["message_start", "message_stop"]


async def test_batches_and_their_results() -> None:
    items = [{"custom_id": name, "params": params(name)} for name in ("quick", "slow", "fails")]
    said = (
        says(Turn(status=529), user="fails"),
        says(Turn(answer=RETURN, delay_s=60), user="slow"),
        says(Turn(text="x")),
    )
    async with (
        scripted_model(said, terms=Terms(batch_expires_s=0.3)) as server,
        httpx2.AsyncClient(base_url=server.url, headers=HEADERS) as http,
    ):
        made = await http.post("/v1/messages/batches", json={"requests": items})
        batch = MessageBatch.model_validate_json(made.content)
        async with asyncio.timeout(10):
            while batch.processing_status != "ended":
                await asyncio.sleep(0.02)
                found = await http.get(f"/v1/messages/batches/{batch.id}")
                batch = MessageBatch.model_validate_json(found.content)
        assert batch.results_url
        results = (await http.get(batch.results_url)).text.splitlines()
    parsed = [MessageBatchIndividualResponse.model_validate_json(line) for line in results]
    assert {each.custom_id: each.result.type for each in parsed} == {
        "quick": "succeeded",
        "slow": "expired",
        "fails": "errored",
    }


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 503, 504, 529])
async def test_errors(status: int) -> None:
    async with (
        scripted_model([says(Turn(status=status))]) as server,
        httpx2.AsyncClient(base_url=server.url, headers=HEADERS) as http,
    ):
        answer = await http.post("/v1/messages", json=params())
    assert answer.status_code == status
    error = ErrorResponse.model_validate_json(answer.content, strict=True)
    assert error.request_id == answer.headers["request-id"]
