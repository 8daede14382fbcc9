"""A stream says what the whole answer says, and breaks off in the middle when it is told to."""

import anthropic
import httpx2
import pytest
from anthropic.types import ToolUseBlock

from mesh.scripted.conversations import Turn
from tests.mesh.scripted.asking import RETURN, ask, asking, params, says


async def test_the_streamed_message_is_the_whole_one() -> None:
    async with asking(says(Turn(text="Let me see. " * 5, answer=RETURN))) as (client, server):
        whole = await ask(client)
        async with client.messages.stream(**params()) as stream:
            kinds = [event.type async for event in stream]
            streamed = await stream.get_final_message()
    assert "text" in kinds and "input_json" in kinds
    assert isinstance(streamed.content[1], ToolUseBlock)
    assert (streamed.content[1].input, streamed.stop_reason) == (RETURN, "tool_use")
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert len(server.billed) == 2


async def test_a_stream_that_breaks_off_is_an_error_and_billed() -> None:
    async with asking(says(Turn(answer=RETURN, disconnect="midway"))) as (client, server):
        with pytest.raises((anthropic.APIConnectionError, httpx2.HTTPError)):
            async with client.messages.stream(**params()) as stream:
                await stream.get_final_message()
    assert [(call.billed, call.answered) for call in server.calls] == [(True, False)]
