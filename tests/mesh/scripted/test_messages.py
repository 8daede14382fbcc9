"""The official client and the scripted server understand each other; what was billed is counted."""

from typing import Any

import anthropic
import pytest
from anthropic.types import ToolUseBlock

from mesh.scripted.asked import read
from mesh.scripted.conversations import Turn
from tests.mesh.scripted.asking import RETURN, SCHEMA, SMALL, ask, asking, params, says


async def test_a_forced_tool_is_answered_with_its_input() -> None:
    async with asking(says(Turn(answer=RETURN), user="#W1")) as (client, server):
        message = await ask(client)
    (block,) = message.content
    assert isinstance(block, ToolUseBlock)
    assert (block.name, block.input, message.stop_reason) == ("answer", RETURN, "tool_use")
    assert message.model == SMALL
    (call,) = server.calls
    assert call.billed and call.answered
    assert (call.tokens_in, call.tokens_out) == (message.usage.input_tokens, message.usage.output_tokens)


async def test_tokens_are_four_bytes_each_rounded_up() -> None:
    asked = read({"model": SMALL, "max_tokens": 1, "system": "12345", "messages": [{"role": "user", "content": "né"}]})
    assert [segment.tokens for segment in asked.segments] == [2, 2]  # 5 bytes, then 5 + 3
    async with asking(says(Turn(text="12345678"))) as (client, _):
        message = await client.messages.create(
            model=SMALL, max_tokens=9, system="12345", messages=[{"role": "user", "content": "né"}]
        )
        counted = await client.messages.count_tokens(
            model=SMALL, system="12345", messages=[{"role": "user", "content": "né"}]
        )
    assert (message.usage.input_tokens, message.usage.output_tokens, counted.input_tokens) == (2, 2, 2)


async def test_a_prompt_that_no_conversation_is_meant_for_is_an_error_that_names_it() -> None:
    async with asking(says(Turn(answer=RETURN), user="#W2")) as (client, server):
        with pytest.raises(anthropic.NotFoundError, match=r"no conversation answers.*intent, order_id.*Send #W1 back"):
            await ask(client)
    assert [(call.status, call.billed) for call in server.calls] == [(404, False)]


async def test_refusals_truncation_and_long_answers_are_told_by_the_stop_reason() -> None:
    turns = (Turn(refusal="not my job"), Turn(text="half", truncated=True), Turn(answer={"intent": "x" * 900}))
    async with asking(says(*turns)) as (client, _):
        refused, cut, long = [await ask(client) for _ in turns]
    assert (refused.stop_reason, refused.content) == ("refusal", [])
    assert refused.stop_details and refused.stop_details.explanation == "not my job"
    assert cut.stop_reason == "max_tokens"
    assert (long.stop_reason, long.usage.output_tokens) == ("max_tokens", 100)
    assert isinstance(long.content[0], ToolUseBlock)
    assert long.content[0].input == {}


async def test_every_answer_has_a_request_id_and_the_state_of_the_limits() -> None:
    async with asking(says(Turn(answer=RETURN)), requests=60, tokens=1000) as (client, _):
        raw = await client.messages.with_raw_response.create(**params())
    assert raw.headers["request-id"].startswith("req_")
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "60"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "59"
    assert int(raw.headers["anthropic-ratelimit-input-tokens-remaining"]) < 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"tool_choice": {"type": "tool", "name": "other"}}, "not found"),
        ({"tools": [{"name": "answer", "input_schema": {"type": "string"}}]}, "input_schema"),
        ({"tools": [{"name": "answer", "strict": True, "input_schema": {"type": "object"}}]}, "additionalProperties"),
        (
            {
                "tools": [
                    {
                        "name": "answer",
                        "strict": True,
                        "input_schema": SCHEMA | {"properties": {"n": {"type": "integer", "minimum": 1}}},
                    }
                ]
            },
            "minimum",
        ),
    ],
)
async def test_what_the_provider_would_not_accept_is_not_accepted(change: dict[str, Any], said: str) -> None:
    async with asking(says(Turn(answer=RETURN))) as (client, server):
        with pytest.raises(anthropic.BadRequestError, match=said):
            await ask(client, **change)
    assert server.billed == []


async def test_a_wrong_key_an_unknown_model_and_an_unknown_path_are_refused() -> None:
    async with asking(says(Turn(answer=RETURN)), api_key="right", models=(SMALL,)) as (client, _):
        with pytest.raises(anthropic.AuthenticationError):
            await ask(client)
        right = client.with_options(api_key="right")
        assert (await ask(right)).stop_reason == "tool_use"
        assert [model.id async for model in right.models.list()] == [SMALL]
        with pytest.raises(anthropic.NotFoundError, match="model: claude-none"):
            await ask(right, model="claude-none")
        with pytest.raises(anthropic.NotFoundError, match="not served"):
            await right.post("/v1/nothing", cast_to=object)


async def test_a_request_that_is_too_large_is_refused_with_413() -> None:
    async with asking(says(Turn(answer=RETURN))) as (client, server):
        with pytest.raises(anthropic.APIStatusError) as refused:
            await ask(client, "x" * (32 * 1024 * 1024))
        assert refused.value.status_code == 413
        assert (await ask(client)).stop_reason == "tool_use"
    assert len(server.billed) == 1
