"""A request to the Messages API as this server sees it: checked as the provider checks it, and counted.

The rule of counting: a token is four bytes of UTF-8, rounded up. Counted are, in this order, each tool as compact JSON
without ``cache_control``, the text of the system prompt, and of each message its text; other blocks as compact JSON.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from mesh.scripted.strictness import complaint

BYTES_A_TOKEN = 4
_BREAKPOINTS = 4
_HOUR_S = 3600.0
_FIVE_MINUTES_S = 300.0


class InvalidRequest(ValueError):
    """What the provider would not accept; the message says what and why."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The prompt up to and with one of its blocks: its digest and its tokens.

    ``ttl_s`` is how long it is to be cached, 0 where no ``cache_control`` stands.
    """

    digest: str
    tokens: int
    ttl_s: float = 0.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as conversations match it.

    ``system`` is the system text, ``user`` the text of the last user turn, ``properties`` those of the asked tool's
    schema, ``prefix`` the digest of tools and system text.
    """

    model: str
    system: str
    user: str
    tool: str
    tools: tuple[str, ...]
    properties: frozenset[str]
    prefix: str
    segments: tuple[Segment, ...]
    max_tokens: int
    stream: bool = False

    @property
    def tokens(self) -> int:
        """The tokens of the whole prompt."""
        return self.segments[-1].tokens


class _Cache(msgspec.Struct, frozen=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Tool(msgspec.Struct, frozen=True):
    name: str
    input_schema: dict[str, Any]
    description: str = ""
    strict: bool = False
    cache_control: _Cache | None = None


class _Choice(msgspec.Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""


class _Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: str | list[dict[str, Any]]


class _Body(msgspec.Struct, frozen=True):
    model: str
    messages: list[_Message]
    max_tokens: int = 0
    system: str | list[dict[str, Any]] = ""
    tools: list[_Tool] = []
    tool_choice: _Choice | None = None
    cache_control: _Cache | None = None
    stream: bool = False


def tokens_of(size: int) -> int:
    """The tokens of so many bytes."""
    return -(-size // BYTES_A_TOKEN)


def read(body: object, *, counting: bool = False) -> Asked:
    """A request's body, checked; raises ``InvalidRequest``. ``counting`` needs no ``max_tokens``."""
    try:
        parsed = msgspec.convert(body, _Body)
        _check(parsed, counting)
        segments = tuple(_segments(parsed))
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from error
    tool = _tool(parsed)
    fixed = len(parsed.tools) + len(_blocks(parsed.system))
    return Asked(
        model=parsed.model,
        system=_text(parsed.system),
        user=_text(parsed.messages[-1].content),
        tool=tool.name if tool else "",
        tools=tuple(each.name for each in parsed.tools),
        properties=frozenset(tool.input_schema.get("properties", ())) if tool else frozenset(),
        prefix=segments[fixed - 1].digest if fixed else "",
        segments=segments,
        max_tokens=parsed.max_tokens,
        stream=parsed.stream,
    )


def _check(body: _Body, counting: bool) -> None:
    if not body.model:
        raise InvalidRequest("model: Field required")
    if not body.messages or body.messages[-1].role != "user":
        raise InvalidRequest("messages: the last message must be a user's (this server takes no prefill)")
    if not _text(body.messages[-1].content).strip():
        raise InvalidRequest("messages: text content blocks must be non-empty")
    if body.max_tokens < 1 and not counting:
        raise InvalidRequest("max_tokens: Field required, at least 1")
    for number, tool in enumerate(body.tools):
        if tool.input_schema.get("type") != "object":
            raise InvalidRequest(f"tools.{number}.input_schema.type: Field required, 'object'")
        if tool.strict and (why := complaint(tool.input_schema)):
            raise InvalidRequest(f"tools.{number}.input_schema: {why}")
    choice = body.tool_choice
    if choice and choice.type == "tool" and choice.name not in {tool.name for tool in body.tools}:
        raise InvalidRequest(f"tool_choice: Tool {choice.name!r} not found in provided tools")
    if choice and not body.tools:
        raise InvalidRequest("tool_choice may only be specified while providing tools")


def _tool(body: _Body) -> _Tool | None:
    """The tool that must or, where it is the only one, can be called."""
    forced = body.tool_choice.name if body.tool_choice else ""
    named = [tool for tool in body.tools if tool.name == forced]
    return named[0] if named else body.tools[0] if len(body.tools) == 1 else None


def _segments(body: _Body) -> Iterator[Segment]:
    digest, size, breakpoints = hashlib.sha256(body.model.encode()), 0, 0
    blocks = list(_counted(body))
    for number, (kind, data, cache) in enumerate(blocks, 1):
        if number == len(blocks) and cache is None:
            cache = body.cache_control
        digest.update(f"{kind}:{len(data)}:".encode() + data)
        size += len(data)
        breakpoints += cache is not None
        ttl_s = 0.0 if cache is None else _HOUR_S if cache.ttl == "1h" else _FIVE_MINUTES_S
        yield Segment(digest=digest.hexdigest()[:16], tokens=tokens_of(size), ttl_s=ttl_s)
    if breakpoints > _BREAKPOINTS:
        raise InvalidRequest(f"A maximum of {_BREAKPOINTS} blocks with cache_control may be provided")


def _counted(body: _Body) -> Iterator[tuple[str, bytes, _Cache | None]]:
    for tool in body.tools:
        plain = {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        yield "tool", msgspec.json.encode(plain), tool.cache_control
    for block in _blocks(body.system):
        yield "system", *_sized(block)
    for message in body.messages:
        for block in _blocks(message.content):
            yield message.role, *_sized(block)


def _sized(block: Mapping[str, Any]) -> tuple[bytes, _Cache | None]:
    given = block.get("cache_control")
    cache = None if given is None else msgspec.convert(given, _Cache)
    if block.get("type") == "text":
        return str(block.get("text", "")).encode(), cache
    return msgspec.json.encode({key: value for key, value in block.items() if key != "cache_control"}), cache


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _text(content: str | list[dict[str, Any]]) -> str:
    return "\n".join(str(block.get("text", "")) for block in _blocks(content) if block.get("type") == "text")
