"""The bodies of answers and errors, as the Messages API words them.

The rule: a reply is made of the turn and the prompt alone, so the same prompt costs the same every time.
"""

from typing import Any

import msgspec

from mesh.scripted.asked import BYTES_A_TOKEN, Asked, tokens_of
from mesh.scripted.cache import InputTokens
from mesh.scripted.conversations import Turn

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_WORDS = {429: "This request would exceed the rate limit.", 500: "Internal server error", 529: "Overloaded"}


class Refused(Exception):
    """A request that is answered by an error of this status."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A message and its output tokens."""

    content: list[dict[str, Any]]
    stop_reason: str
    tokens_out: int
    refusal: str = ""

    def body(self, asked: Asked, message_id: str, taken: InputTokens, service: str) -> dict[str, Any]:
        """The message as the API answers it."""
        details = {"type": "refusal", "category": None, "explanation": self.refusal} if self.refusal else None
        return {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "stop_details": details,
            "usage": {
                "input_tokens": taken.whole,
                "output_tokens": self.tokens_out,
                "cache_read_input_tokens": taken.read,
                "cache_creation_input_tokens": taken.written,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": taken.written - taken.hour,
                    "ephemeral_1h_input_tokens": taken.hour,
                },
                "service_tier": service,
            },
        }


def reply(turn: Turn, asked: Asked, tool_id: str, place: str) -> Reply:
    """What a turn says to a prompt; raises ``Refused`` where the conversation cannot be held with this prompt."""
    if turn.refusal:
        return Reply(content=[], stop_reason="refusal", tokens_out=1, refusal=turn.refusal)
    content: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
    size, stop = len(turn.text.encode()), "end_turn"
    if turn.answer is not msgspec.UNSET:
        tool = turn.tool or asked.tool
        if tool not in asked.tools:
            raise Refused(
                500, f"{place}: calls the tool {tool!r}, but the prompt has {', '.join(asked.tools) or 'none'}"
            )
        content.append({"type": "tool_use", "id": tool_id, "name": tool, "input": turn.answer})
        size, stop = size + len(msgspec.json.encode(turn.answer)), "tool_use"
    if tokens_of(size) > asked.max_tokens:
        return _cut(turn, asked, tool_id)
    out = turn.tokens.output if turn.tokens else max(1, tokens_of(size))
    return Reply(content=content, stop_reason="max_tokens" if turn.truncated else stop, tokens_out=out)


def _cut(turn: Turn, asked: Asked, tool_id: str) -> Reply:
    """What is left where the answer is longer than the prompt allows: of a tool's input nothing."""
    text = turn.text.encode()[: asked.max_tokens * BYTES_A_TOKEN].decode(errors="ignore")
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    if turn.answer is not msgspec.UNSET:
        content.append({"type": "tool_use", "id": tool_id, "name": turn.tool or asked.tool, "input": {}})
    return Reply(content=content, stop_reason="max_tokens", tokens_out=asked.max_tokens)


def error_body(status: int, message: str, request_id: str) -> dict[str, Any]:
    """An error as the API answers it."""
    words = message or _WORDS.get(status, "Error")
    return {
        "type": "error",
        "error": {"type": ERROR_TYPES.get(status, "api_error"), "message": words},
        "request_id": request_id,
    }
