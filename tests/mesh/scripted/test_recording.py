"""A conversation recorded from a provider answers the same prompt again without it, and only that prompt."""

from pathlib import Path

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import ToolUseBlock

from mesh.scripted.conversations import Turn
from mesh.scripted.recording import recording
from mesh.scripted.server import scripted_model
from tests.mesh.scripted.asking import RETURN, ask, asking, says


async def test_what_is_recorded_is_replayed_at_the_same_cost_and_the_key_is_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "recorded.yaml"
    real_says = (says(Turn(refusal="not my job"), user="harm"), says(Turn(text="I see.", answer=RETURN)))
    async with (
        asking(*real_says, api_key="sk-secret") as (_, real),
        recording(real.url, file) as recorder,
        scripted_model(recorder=recorder) as proxy,
        AsyncAnthropic(api_key="sk-secret", base_url=proxy.url, max_retries=0) as client,
    ):
        first = await ask(client)
        await ask(client)
        assert (await ask(client, "do harm")).stop_reason == "refusal"
        assert len(real.billed) == 2  # the second time it knew the answer
        with pytest.raises(anthropic.AuthenticationError):
            await ask(client.with_options(api_key="wrong"), "something new")
    assert "sk-secret" not in file.read_text(encoding="utf-8")
    async with (
        scripted_model([file]) as replaying,
        AsyncAnthropic(api_key="any", base_url=replaying.url, max_retries=0) as client,
    ):
        again = await ask(client)
        assert isinstance(again.content[1], ToolUseBlock)
        assert again.content[1].input == RETURN
        assert again.usage.input_tokens == first.usage.input_tokens
        with pytest.raises(anthropic.NotFoundError, match="no conversation answers"):
            await ask(client, system="You sort requests differently.")
