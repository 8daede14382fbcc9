"""CloudEvents 1.0 by HTTP: structured, batched and binary mode (CloudEvents HTTP protocol binding 1.0.2).

The rule: reading a request is a pure function of its headers and body; what is wrong is said with a status and a place.
"""

from collections.abc import Mapping

import msgspec

from mesh.errors import WorkmeshError
from mesh.events import MAX_EVENT_BYTES, CloudEvent

EVENTS_MAX = 1000  # in one batch
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
TAKEN = f"{_STRUCTURED}, {_BATCH}, or application/json with ce- headers"


class RequestError(WorkmeshError):
    """A request that is not taken: the HTTP status, a JSON pointer to what is wrong ("" of the whole), and why."""

    def __init__(self, status: int, reason: str, pointer: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{pointer}: {reason}" if pointer else reason)
        self.status = status
        self.reason = reason
        self.pointer = pointer
        self.headers = dict(headers or {})


def split(headers: Mapping[str, str], body: bytes) -> tuple[list[tuple[bytes, Mapping[str, str]]], bool]:
    """The events of a request, each as bytes and headers for ``mesh.events.read``; and whether they are a batch.

    Header names are lower-case. Raises ``RequestError`` with 400, 413 or 415.
    """
    kind, _, parameters = headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    _require_utf8(parameters)
    if kind == _BATCH:
        return [(_small(data, f"/{number}"), {}) for number, data in enumerate(_items(body))], True
    if kind == _STRUCTURED:
        return [(_small(body), {})], False
    if "ce-specversion" in headers:
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise RequestError(
                415, f"data of type {kind or 'none'} is not taken: application/json is", "/datacontenttype"
            )
        known = {name: value for name, value in headers.items() if name.startswith("ce-") or name == "traceparent"}
        return [(_small(body), {**known, "content-type": headers["content-type"]})], False
    raise RequestError(415, f"content type {kind or 'none'} is not taken: send {TAKEN}")


def structured(event: CloudEvent) -> bytes:
    """The event in structured mode, as it stands in ``EVENTS``."""
    fields = msgspec.structs.asdict(event)
    return msgspec.json.encode({name: value for name, value in fields.items() if value not in ("", None)})


def _items(body: bytes) -> list[bytes]:
    try:
        body.decode("utf-8")
        found = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"not a JSON array of CloudEvents: {error}") from error
    if len(found) > EVENTS_MAX:
        raise RequestError(413, f"{len(found)} events in one batch; {EVENTS_MAX} are taken")
    return [bytes(item) for item in found]


def _small(data: bytes, pointer: str = "") -> bytes:
    if len(data) > MAX_EVENT_BYTES:
        raise RequestError(413, f"the event has {len(data)} bytes; {MAX_EVENT_BYTES} are taken", pointer)
    return data


def _require_utf8(parameters: str) -> None:
    for part in parameters.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise RequestError(415, f"charset {value} is not taken: utf-8 is")
