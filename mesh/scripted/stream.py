"""A message as the stream of server-sent events that the Messages API sends with ``stream: true``."""

from collections.abc import Iterator
from typing import Any

import msgspec

_CHUNK = 24  # characters a delta


def events(message: dict[str, Any]) -> Iterator[bytes]:
    """The events of a message, each whole."""
    usage = message["usage"]
    begun = {"content": [], "stop_reason": None, "stop_details": None, "usage": usage | {"output_tokens": 1}}
    yield _event({"type": "message_start", "message": message | begun})
    yield _event({"type": "ping"})
    for index, block in enumerate(message["content"]):
        empty: dict[str, Any] = {"text": ""} if block["type"] == "text" else {"input": {}}
        yield _event({"type": "content_block_start", "index": index, "content_block": block | empty})
        for delta in _deltas(block):
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    delta = {key: message[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    counted = {key: usage[key] for key in ("input_tokens", "output_tokens")}
    counted |= {key: usage[key] for key in ("cache_read_input_tokens", "cache_creation_input_tokens")}
    yield _event({"type": "message_delta", "delta": delta, "usage": counted})
    yield _event({"type": "message_stop"})


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, str]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": part} for part in _parts(block["text"]))
    else:
        text = msgspec.json.encode(block["input"]).decode()
        yield from ({"type": "input_json_delta", "partial_json": part} for part in _parts(text))


def _parts(text: str) -> Iterator[str]:
    return (text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK))


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(data["type"]).encode(), msgspec.json.encode(data))
