"""The Messages API: one call, its answer and its exact usage, and batches of them; errors split by who has to pay.

The rule: the key is sent to the configured server and told to nobody else; who calls again is the caller's matter.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import anthropic
import httpx2
import msgspec
from anthropic import AsyncAnthropic

from mesh import files
from mesh.errors import SettingsError, WorkmeshError
from mesh.record import NULL, Json
from mesh.settings import ModelSettings

TOOL: Final = "answer"
_TEXT_MAX = 2000  # characters of what a model said where it gave no answer
_CONNECT_S = 5.0
# These think before each answer, cannot be told not to, and refuse a request that forces a tool (the provider's
# "What's new in Claude Opus 5.5"): they may use it, and get tokens to think with. All others do not think here.
_THINKERS = ("claude-opus-5-5", "claude-fable-", "claude-mythos-")
_THINKING_TOKENS = 4096
_EPHEMERAL = {"type": "ephemeral"}
# A gateway that gave up waiting does not know what became of the call behind it.
_UNKNOWN = {408, 499, 502, 504, 520, 522, 524}
_AGAIN = {409, 429, 500, 503, 529}
_SPENT = "enforced_spend_limit_reached"
_SETTING = {
    400: "the request",
    401: "ANTHROPIC_API_KEY or models.key_file",
    402: "the account of the key",
    403: "ANTHROPIC_API_KEY or models.key_file",
    404: "models.base_url, or the model of the tier",
    413: "the size of the request",
}


class CallError(WorkmeshError):
    """A call gave no answer. ``retry_after_s`` is what the server asked to wait; ``status`` is that of HTTP, if any."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, limited: bool = False, status: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.limited = limited

    @property
    def brief(self) -> str:
        """The reason for a log: without the server's words, which may repeat the question."""
        return f"the server answered {self.status}" if self.status else str(self)


class NotBilledError(CallError):
    """The call certainly cost nothing, and may be made again."""


class UnknownFateError(CallError):
    """The call may have been answered, and then is to be paid for."""


class RejectedError(CallError):
    """The server will not take this call, now or later; it cost nothing. The message names the setting to look at."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent: ``system`` and ``schema`` (of the answer, an object) are the stable prefix, ``user`` is not."""

    model: str
    system: str
    user: str
    schema: Json
    max_tokens: int

    @property
    def size(self) -> int:
        """Its bytes: at least as many as tokens of what it says."""
        return len(self.system.encode()) + len(self.user.encode()) + len(bytes(self.schema)) + 2 * len(TOOL)

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.model.startswith(_THINKERS)

    @property
    def most_out(self) -> int:
        """The most tokens that can be billed for what comes back."""
        return self.max_tokens + (_THINKING_TOKENS if self.thinks else 0)


class Reply(msgspec.Struct, frozen=True):
    """What came, and its tokens. ``problem`` says why it is no answer; ``declined``, that the model said no."""

    output: Json = NULL
    text: str = ""
    problem: str = ""
    declined: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_written: int = 0
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the provider has it."""

    id: str
    created_at: datetime
    ended: bool
    size: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one request of a batch: a reply, or why there is none and whether sending it again may help."""

    custom_id: str
    reply: Reply | None = None
    problem: str = ""
    final: bool = False


class Messages:
    """A server that speaks the Messages API. Made by ``messages_api``."""

    def __init__(self, client: AsyncAnthropic, *, plain: bool = False) -> None:
        self._client = client
        self._plain = plain

    async def ask(self, question: Question, *, timeout_s: float, traceparent: str = "") -> Reply:
        """One call; raises ``NotBilledError``, ``UnknownFateError`` or ``RejectedError``."""
        headers = {"traceparent": traceparent} if traceparent else None
        timeout = httpx2.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
        # The client's own limit is for each read: a server that drips would never meet it.
        async with _mapped(timeout_s), _within(timeout_s):
            raw = await self._client.messages.with_raw_response.create(
                **self.request(question), timeout=timeout, extra_headers=headers
            )
            body = await raw.read()
        return read_reply(body, raw.headers.get("request-id", ""), plain=self._plain)

    async def submit(self, questions: Mapping[str, Question], *, timeout_s: float) -> BatchState:
        """Send a batch of questions by their custom ids (``A-Za-z0-9_-``, at most 64); raises as ``ask`` does."""
        requests: Any = [{"custom_id": name, "params": self.request(each)} for name, each in questions.items()]
        async with _mapped(timeout_s):
            return _state(await self._client.messages.batches.create(requests=requests, timeout=timeout_s))

    async def batch(self, batch_id: str, *, timeout_s: float) -> BatchState:
        """A batch as it stands; ``RejectedError`` when the provider has none of this id."""
        async with _mapped(timeout_s):
            return _state(await self._client.messages.batches.retrieve(batch_id, timeout=timeout_s))

    async def batches_since(self, at: datetime, *, timeout_s: float) -> list[BatchState]:
        """All batches created at this time or after it, the newest first."""
        found: list[BatchState] = []
        async with _mapped(timeout_s):
            async for each in self._client.messages.batches.list(limit=100, timeout=timeout_s):
                if each.created_at < at:
                    break
                found.append(_state(each))
        return found

    async def results(self, batch_id: str, *, timeout_s: float) -> AsyncIterator[BatchResult]:
        """The results of a batch that has ended, in any order."""
        async with _mapped(timeout_s):
            lines = await self._client.messages.batches.results(batch_id, timeout=timeout_s)
            async for line in lines:
                yield _result(line.custom_id, line.result, plain=self._plain)

    def request(self, question: Question) -> dict[str, Any]:
        """The question as it is sent."""
        tool: dict[str, Any] = {
            "name": TOOL,
            "description": "Give the answer. Call this once, and say nothing else.",
            "input_schema": msgspec.json.decode(question.schema),
        }
        system: list[dict[str, Any]] = [{"type": "text", "text": question.system}] if question.system else []
        more: dict[str, Any] = {"tool_choice": {"type": "tool", "name": TOOL}}
        if not self._plain:
            tool |= {"strict": True, "cache_control": _EPHEMERAL}
            system = [{**each, "cache_control": _EPHEMERAL} for each in system]
            more["thinking"] = {"type": "disabled"}
            if question.thinks:
                more = {"tool_choice": {"type": "auto"}, "output_config": {"effort": "low"}}
        return {
            "model": question.model,
            "max_tokens": question.most_out,
            "system": system,
            "messages": [{"role": "user", "content": question.user}],
            "tools": [tool],
            **more,
        }


@asynccontextmanager
async def messages_api(settings: ModelSettings, env: Mapping[str, str] = os.environ) -> AsyncIterator[Messages]:
    """The server of the settings; raises ``SettingsError`` where there is no key, or one that others can read."""
    base_url = settings.base_url or env.get("ANTHROPIC_BASE_URL") or None
    key = _key(settings, env)
    token = env.get("ANTHROPIC_AUTH_TOKEN") or None if not key else None
    if not key and not token:
        if base_url is None:
            raise SettingsError("models are on, and there is no key: set ANTHROPIC_API_KEY or models.key_file")
        key = "none"  # servers on premises take any
    try:
        client = AsyncAnthropic(api_key=key or None, auth_token=token, base_url=base_url, max_retries=0)
    except (anthropic.AnthropicError, ValueError, httpx2.InvalidURL) as error:
        raise SettingsError(f"models.base_url {base_url!r} cannot be used: {error}") from error
    async with client:
        yield Messages(client, plain=settings.plain)


def _key(settings: ModelSettings, env: Mapping[str, str]) -> str:
    if not settings.key_file:
        return env.get("ANTHROPIC_API_KEY", "")
    return files.read_private(Path(settings.key_file).expanduser(), "models.key_file").strip()


@asynccontextmanager
async def _mapped(timeout_s: float) -> AsyncIterator[None]:
    """Errors of the client as those of this module."""
    try:
        yield
    except anthropic.APIStatusError as error:
        raise _status_error(error) from error
    except anthropic.APIConnectionError as error:
        raise _connection_error(error, timeout_s) from error
    except httpx2.HTTPError as error:  # while the answer was read
        raise UnknownFateError(f"the connection was lost: {error or type(error).__name__}") from error
    except (anthropic.AnthropicError, ValueError) as error:
        raise UnknownFateError(f"the server's answer cannot be read: {error}") from error


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise UnknownFateError(f"no whole answer within {seconds:g} s") from error


def _connection_error(error: anthropic.APIConnectionError, timeout_s: float) -> CallError:
    cause = error.__cause__
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.UnsupportedProtocol):
        return NotBilledError(f"no connection: {cause or type(cause).__name__}")
    if isinstance(error, anthropic.APITimeoutError):
        return UnknownFateError(f"no answer within {timeout_s:g} s")
    return UnknownFateError(f"the connection was lost: {cause or error}")


def _status_error(error: anthropic.APIStatusError) -> CallError:
    status = error.status_code
    text = f"{status}: {error.api_message or error.message}"[:300]
    if status in _UNKNOWN:
        return UnknownFateError(text, status=status)
    if error.error_code == _SPENT:
        return RejectedError(f"{text} (look at the spend limit of the account)", status=status)
    if status in _AGAIN or status >= 500:
        return NotBilledError(text, retry_after_s=_retry_after_s(error.response), limited=status == 429, status=status)
    return RejectedError(f"{text} (look at {_SETTING.get(status, 'models.base_url')})", status=status)


def _retry_after_s(response: httpx2.Response) -> float | None:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str = ""
    name: str = ""
    input: Json = NULL


class _StopDetails(msgspec.Struct, frozen=True):
    explanation: str | None = None


class _Message(msgspec.Struct, frozen=True):
    """What is read of an answer; all else in it is passed over."""

    content: list[_Block]
    usage: _Usage
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


_decode: Final = msgspec.json.Decoder(_Message).decode


def read_reply(body: bytes, request_id: str = "", *, plain: bool = False) -> Reply:
    """An answer of the server as a reply; raises ``UnknownFateError`` for what is no message of the API."""
    try:
        message = _decode(body)
    except msgspec.DecodeError as error:
        raise UnknownFateError(f"the server's answer cannot be read: {error}") from error
    output, text, problem = _answer(message, plain=plain)
    declined = message.stop_reason == "refusal"
    if declined and not text and message.stop_details:
        text = message.stop_details.explanation or ""
    return Reply(
        output=NULL if declined or problem else output,
        text=text[:_TEXT_MAX],
        problem="the model declined" if declined else problem,
        declined=declined,
        tokens_in=message.usage.input_tokens,
        tokens_out=message.usage.output_tokens,
        tokens_cached=message.usage.cache_read_input_tokens or 0,
        tokens_written=message.usage.cache_creation_input_tokens or 0,
        request_id=request_id,
    )


def _answer(message: _Message, *, plain: bool) -> tuple[Json, str, str]:
    """The answer, what was said beside it, and why it is none."""
    text = "\n".join(block.text for block in message.content if block.type == "text")
    called = [block for block in message.content if block.type == "tool_use" and block.name == TOOL]
    if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        return NULL, text, f"the answer was cut off ({message.stop_reason})"
    if not called and plain:
        found = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
        if _is_object(found.encode()):
            return Json(found.encode()), "", ""
    if len(called) != 1:
        return NULL, text, "the model answered with text" if not called else f"the model answered {len(called)} times"
    if not _is_object(bytes(called[0].input)):
        return NULL, text or bytes(called[0].input).decode(errors="replace"), "the answer is no object"
    return called[0].input, text, ""


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except msgspec.DecodeError:
        return False


def _state(batch: Any) -> BatchState:
    counts = batch.request_counts
    size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
    return BatchState(batch.id, batch.created_at, batch.processing_status == "ended", size)


def _result(custom_id: str, result: Any, *, plain: bool) -> BatchResult:
    if result.type == "succeeded":
        return BatchResult(custom_id, reply=read_reply(result.message.to_json().encode(), plain=plain))
    if result.type == "errored":
        error = result.error.error
        return BatchResult(
            custom_id, problem=f"{error.type}: {error.message}"[:300], final=error.type == "invalid_request_error"
        )
    return BatchResult(custom_id, problem=f"the request was {result.type}")


def custom_ids(nonce: str, count: int) -> Sequence[str]:
    """The custom ids of a batch: they tell whose it is, and which request each result belongs to."""
    return [f"{nonce}-{number}" for number in range(count)]
