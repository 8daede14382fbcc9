"""CloudEvents 1.0 as they come over NATS, in structured or binary mode (CloudEvents NATS protocol binding 1.0.2).

The rule: reading an event is a pure function of its bytes and headers; what is wrong is said with the attribute.
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from urllib.parse import unquote

import msgspec

from mesh.canonical import digest
from mesh.errors import WorkmeshError

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,60}")
_JSON_TYPES = re.compile(r"(?i)^application/([a-z0-9.+-]+\+)?json\s*(;.*)?$")
_TYPE = re.compile(r"[A-Za-z0-9_\-]{1,64}(\.[A-Za-z0-9_\-]{1,64}){1,7}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_EVENT_BYTES = 64 * 1024
_HOW_IT_CAME = ("channel", "original")
_CHANNEL = re.compile(r"[A-Za-z0-9_\-]{0,64}")
_SHA256 = re.compile(r"([0-9a-f]{64})?")
MAX_DEPTH = 64  # deeper data would end some later step, not this one, with the interpreter's recursion limit


class MalformedEventError(WorkmeshError):
    """Not a valid CloudEvent; ``pointer`` names the attribute or field, as a JSON pointer."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer}: {message}" if pointer else message)
        self.pointer = pointer


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A valid envelope. ``data`` is the payload's JSON, not yet held against the type's own struct.

    ``channel`` and ``original`` are extensions that intake sets: the source it came by, and the SHA-256 (hex) of the
    bytes that it was made of, as ``ORIGINALS`` keeps them.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str = ""
    time: datetime | None = None
    datacontenttype: str = "application/json"
    dataschema: str = ""
    traceparent: str = ""
    channel: str = ""
    original: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")

    def content_digest(self, without: Collection[str] = ()) -> str:
        """The digest of what the event says: the canonical data, every attribute but the trace and how it came.

        ``without`` are fields of the data, which is an object then, that do not count.
        """
        said = msgspec.structs.asdict(self) | {"traceparent": ""}
        if without:
            fields = msgspec.json.decode(self.data, type=dict[str, msgspec.Raw])
            said["data"] = {name: value for name, value in fields.items() if name not in without}
        for name in _HOW_IT_CAME:
            del said[name]
        return digest(said)


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read(data: bytes, headers: Mapping[str, str] | None = None) -> CloudEvent:
    """The event in a NATS message; raises ``MalformedEventError`` with the attribute that is wrong."""
    if len(data) > MAX_EVENT_BYTES:
        raise MalformedEventError("", f"the event has {len(data)} bytes; {MAX_EVENT_BYTES} are allowed")
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    fields = _binary(data, lowered) if "ce-specversion" in lowered else _structured(data)
    if "traceparent" not in fields and (trace := lowered.get("traceparent")):
        fields["traceparent"] = _raw("traceparent", trace)
    return _checked(fields)


def _binary(data: bytes, headers: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    fields = {name[3:]: _raw(name[3:], unquote(value)) for name, value in headers.items() if name.startswith("ce-")}
    if content_type := headers.get("content-type"):
        fields["datacontenttype"] = _raw("datacontenttype", content_type)
    if data:
        try:
            check_depth(data)
        except (ValueError, RecursionError) as error:
            raise MalformedEventError("/data", f"not JSON: {error}") from error
        fields["data"] = msgspec.Raw(data)
    return fields


def _raw(name: str, text: str) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(text))
    except UnicodeEncodeError as error:
        raise MalformedEventError(f"/{name}", f"is not text: {error}") from error


def _structured(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        data.decode("utf-8")
        check_depth(data)
        return _decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedEventError("", f"not a CloudEvent in JSON: {error}") from error


def check_depth(data: bytes) -> None:
    """Raises ``ValueError`` when the data is not JSON, or is nested too deep."""
    level = [msgspec.json.decode(data)]
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _checked(fields: dict[str, msgspec.Raw]) -> CloudEvent:
    for name in fields:
        if name == "data_base64":
            raise MalformedEventError("/data_base64", "binary data is not accepted: send JSON data")
        if not _ATTRIBUTE.fullmatch(name):
            raise MalformedEventError(f"/{name}", "attribute names are lower-case letters and digits")
    for name in ("specversion", "id", "source", "type"):
        if name not in fields:
            raise MalformedEventError(f"/{name}", "is required")
    for name in ("subject", "time", "datacontenttype", "dataschema", "traceparent", *_HOW_IT_CAME):
        if bytes(fields.get(name, b"")) == b"null":
            del fields[name]
    try:
        event = msgspec.convert(
            {name: raw if name == "data" else msgspec.json.decode(raw) for name, raw in fields.items()},
            CloudEvent,
        )
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise MalformedEventError(f"/{where.rstrip('`')}" if where else "", what) from error
    _check_values(event)
    return event


def _check_values(event: CloudEvent) -> None:
    if event.specversion != "1.0":
        raise MalformedEventError("/specversion", f"{event.specversion!r} is not known: 1.0 is")
    for name, text in (("id", event.id), ("source", event.source)):
        if not text or len(text) > 1024 or _CONTROL.search(text):
            raise MalformedEventError(f"/{name}", "must be 1 to 1,024 characters without control characters")
    if not _TYPE.fullmatch(event.type):
        raise MalformedEventError("/type", "must be <domain>.<name>: tokens of letters, digits, - and _, with dots")
    if len(event.subject) > 1024 or _CONTROL.search(event.subject):
        raise MalformedEventError("/subject", "must be at most 1,024 characters without control characters")
    if not _CHANNEL.fullmatch(event.channel):
        raise MalformedEventError("/channel", "must be the name of a source: at most 64 letters, digits, - and _")
    if not _SHA256.fullmatch(event.original):
        raise MalformedEventError("/original", "must be a SHA-256 as 64 hexadecimal digits")
    if event.time is not None and event.time.tzinfo is None:
        raise MalformedEventError("/time", "must be an RFC 3339 time with an offset")
    if not _JSON_TYPES.match(event.datacontenttype):
        raise MalformedEventError("/datacontenttype", f"{event.datacontenttype!r} is not JSON")
