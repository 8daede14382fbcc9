"""How these tests ask: through the official client, as the product does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types import Message

from mesh.scripted.conversations import Conversation, Turn, When
from mesh.scripted.provider import Terms
from mesh.scripted.server import ScriptedModel, scripted_model

SMALL = "claude-haiku-4-5"
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string"}, "order_id": {"type": "string"}},
    "required": ["intent", "order_id"],
    "additionalProperties": False,
}
RETURN = {"intent": "retail.return.requested", "order_id": "#W1"}


def says(*turns: Turn, **when: Any) -> Conversation:
    return Conversation(conversation="in a test", when=When(**when), says=turns)


def params(user: str = "Send #W1 back", **more: Any) -> dict[str, Any]:
    """A forced strict tool call, as the model process asks."""
    tool = {"name": "answer", "strict": True, "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
    asked = {
        "model": SMALL,
        "max_tokens": 100,
        "system": [{"type": "text", "text": "You sort requests.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": user}],
        "tools": [tool],
        "tool_choice": {"type": "tool", "name": "answer"},
    }
    return asked | more


@asynccontextmanager
async def asking(*sources: Conversation, **terms: Any) -> AsyncIterator[tuple[AsyncAnthropic, ScriptedModel]]:
    async with (
        scripted_model(sources, terms=Terms(**terms)) as server,
        AsyncAnthropic(api_key="sk-test", base_url=server.url, max_retries=0) as client,
    ):
        yield client, server


async def ask(client: AsyncAnthropic, user: str = "Send #W1 back", **more: Any) -> Message:
    message = await client.messages.create(**params(user, **more))
    assert isinstance(message, Message)
    return message
