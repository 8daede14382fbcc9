"""Records conversations with a real provider: what is asked for the first time is asked there, and written down.

The rule: a recorded conversation answers the very same prompt only, tools and system text included; keys pass through
and are never written.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh.scripted.asked import Asked
from mesh.scripted.conversations import Conversation, Tokens, Turn, When, dump
from mesh.scripted.replies import Refused

_TIMEOUT_S = 300.0
_PASSED_ON = ("x-api-key", "authorization", "anthropic-version", "anthropic-beta")
_TITLE = 60


class Recorder:
    """Asks the provider and appends to the file."""

    def __init__(self, client: httpx2.AsyncClient, file: Path) -> None:
        self._client = client
        self._file = file

    async def ask(self, asked: Asked, body: Mapping[str, Any], headers: Mapping[str, str]) -> Conversation:
        """The conversation of a prompt; raises ``Refused`` with the provider's error, which is not recorded."""
        passed = {name: headers[name] for name in _PASSED_ON if name in headers}
        begun = time.perf_counter()
        try:
            answer = await self._client.post("/v1/messages", json={**body, "stream": False}, headers=passed)
        except httpx2.HTTPError as error:
            raise Refused(502, f"the provider cannot be reached: {error!r}") from error
        took_s = round(time.perf_counter() - begun, 3)
        if not answer.is_success:
            wait = answer.headers.get("retry-after", "")
            raise Refused(answer.status_code, answer.text[:1000], float(wait) if wait.isdecimal() else None)
        conversation = Conversation(
            conversation=f"{asked.model}: {' '.join(asked.user.split())[:_TITLE]}",
            when=When(model=asked.model, prefix=asked.prefix, user_is=asked.user),
            says=(turn(answer.json(), took_s),),
        )
        with self._file.open("a", encoding="utf-8") as file:
            file.write(dump([conversation]))
        return conversation


@asynccontextmanager
async def recording(base_url: str, file: Path) -> AsyncIterator[Recorder]:
    """A recorder of the provider at ``base_url`` into ``file``."""
    async with httpx2.AsyncClient(base_url=base_url, timeout=_TIMEOUT_S) as client:
        yield Recorder(client, file)


def turn(message: Mapping[str, Any], took_s: float) -> Turn:
    """A provider's message as a turn; raises ``Refused`` where a turn cannot say it. Thinking is left out."""
    blocks, usage = message["content"], message["usage"]
    text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    called = [block for block in blocks if block["type"] == "tool_use"]
    refused = message["stop_reason"] == "refusal"
    if len(called) > 1 or not (called or text or refused):
        raise Refused(502, f"this answer cannot be recorded: {msgspec.json.encode(blocks).decode()[:300]}")
    details = message.get("stop_details") or {}
    return Turn(
        answer=called[0]["input"] if called and not refused else msgspec.UNSET,
        tool=called[0]["name"] if called and not refused else "",
        text="" if refused else text,
        refusal=(details.get("explanation") or text or "refused") if refused else "",
        truncated=message["stop_reason"] == "max_tokens",
        tokens=Tokens(
            input=usage["input_tokens"],
            output=usage["output_tokens"],
            cache_read=usage.get("cache_read_input_tokens") or 0,
            cache_write=usage.get("cache_creation_input_tokens") or 0,
        ),
        took_s=took_s,
    )
