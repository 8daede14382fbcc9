"""One byte form for one meaning: digests, identifiers and effect keys are functions of content alone."""

import base64
import hashlib
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")
_decode = msgspec.json.decode


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; ``msgspec.Raw`` parts are normalised too.

    Follows RFC 8785 but for number formatting: numbers keep msgspec's shortest form.
    """
    return _encoder.encode(_decode(_encoder.encode(value)))


def digest(value: Any) -> str:
    """``sha256:<hex>`` of the canonical JSON of ``value``."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """``sha256:<hex>`` of the bytes as they are."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def token(*parts: str, bits: int = 130) -> str:
    """A lower-case base32 identifier (a-z, 2-7: safe in a subject or a file name) of the parts, in order.

    Parts are length-prefixed, so ("ab", "c") and ("a", "bc") differ.
    """
    hasher = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hasher.update(len(raw).to_bytes(8, "big"))
        hasher.update(raw)
    # Five bytes are eight characters; no more of the digest is encoded than is shown.
    return base64.b32encode(hasher.digest()[: -(-bits // 40) * 5]).decode().lower()[: bits // 5]


def task_id(source: str, event_id: str) -> str:
    """The task of an event: a function of the event's source and id, so the same event is the same task."""
    return token("task", source, event_id)


def effect_key(task: str, step: str) -> str:
    """The idempotency key of a step's effect; made by the runtime alone, never by a model."""
    return f"wm-{task}-{step}"
