"""The bus as an AsyncAPI 3.0 document: channels, messages, schemas, and what each role may send and receive.

The rule: nothing is written down twice: subjects, structs, permissions and consumers are read from the code.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from console.bus.channels import REST, Channel, channels
from console.bus.structs import components
from console.pack.schemas import DIALECT, event_schema, portable
from mesh.events import CloudEvent
from mesh.pack import Pack
from mesh.permissions import ROLES
from mesh.service import Offered
from mesh.streams import STAGES

VERSION = "3.0.0"
_REFERENCE = "#/components/schemas/{name}"
_JSON_SCHEMA = f"application/schema+json;version={DIALECT.split('/')[-2].replace('draft', '')}"
_DSSE = "application/vnd.dsse+json"


def document(packs: Mapping[str, Pack], services: Mapping[str, Offered]) -> dict[str, Any]:
    """The document, for these packs and services."""
    found = list(channels(packs, services))
    models = [model for channel in found for model in (*channel.says, channel.answer) if model is not None]
    schemas, parts = components([*models, CloudEvent], _REFERENCE)
    by_model = {repr(model): schema for model, schema in zip([*models, CloudEvent], portable(schemas), strict=True)}
    messages: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for channel in found:
        own = dict(_messages(channel, by_model, packs))
        messages |= own
        shown[_key(channel.id)] = _channel(channel, own)
    schemas_out = {_key(name): _renamed(portable(part)) for name, part in sorted(parts.items())}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Workmesh",
            "version": version("workmesh"),
            "description": "What is said on the bus: events, the records of tasks, memory, governance, services.",
        },
        "defaultContentType": "application/json",
        "servers": {"bus": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "As `bus.url` says."}},
        "channels": shown,
        "operations": dict(_operations(found)),
        "components": {"schemas": schemas_out, "messages": messages},
    }


def _channel(channel: Channel, messages: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": channel.address,
        "title": channel.title,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    if channel.stream:
        found["x-nats-stream"] = channel.stream
    if channel.parameters:
        found["parameters"] = {
            name: {"description": "One or more tokens of the subject." if name == REST else "One token of the subject."}
            for name in channel.parameters
        }
    return found


def _messages(
    channel: Channel, schemas: Mapping[str, Any], packs: Mapping[str, Pack]
) -> Iterator[tuple[str, dict[str, Any]]]:
    key = _key(channel.id)
    if channel.event is not None:
        yield from _cloud_events(channel, key, schemas, packs)
        return
    for model in channel.says:
        name = key if len(channel.says) == 1 else f"{key}-{_key(str(model.__struct_config__.tag))}"
        message: dict[str, Any] = {"title": model.__name__, "payload": _payload(schemas[repr(model)])}
        if channel.signed:
            message |= {"contentType": _DSSE, "payload": _envelope(message["payload"])}
        yield name, message
    if channel.answer is not None:
        result = _payload(schemas[repr(channel.answer)])["schema"]
        schema = {"type": "object", "properties": {"result": result, "error": {"type": "string"}}}
        yield f"{key}-answer", {"title": f"Answer of {channel.id}", "payload": _payload(schema)}
    if not channel.says:
        yield key, {"title": channel.title}


def _cloud_events(
    channel: Channel, key: str, schemas: Mapping[str, Any], packs: Mapping[str, Pack]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """An event in structured mode, and in binary mode with its attributes as headers."""
    kind = channel.event
    assert kind is not None
    data = event_schema(kind, packs[kind.name.partition(".")[0]].version)
    own = {"properties": {"type": {"const": kind.name}, "data": data}, "required": ["type", "data"]}
    whole = {"allOf": [schemas[repr(CloudEvent)], own]}
    names = [field.encode_name for field in msgspec.structs.fields(CloudEvent) if field.name != "data"]
    needed = [f"ce-{field.encode_name}" for field in msgspec.structs.fields(CloudEvent) if field.required]
    headers = {
        "type": "object",
        "properties": {f"ce-{name}": {"type": "string"} for name in names if name != "datacontenttype"},
        "required": needed,
    }
    yield key, {"title": kind.name, "contentType": "application/cloudevents+json", "payload": _payload(whole)}
    yield (
        f"{key}-binary",
        {"title": f"{kind.name}, binary mode", "headers": _payload(headers), "payload": _payload(data)},
    )


def _envelope(payload: dict[str, Any]) -> dict[str, Any]:
    """A DSSE envelope, which says by an annotation what stands in it."""
    signature = {"type": "object", "properties": {"keyid": {"type": "string"}, "sig": {"type": "string"}}}
    inside = {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": "application/json",
        "contentSchema": payload["schema"],
    }
    signatures = {"type": "array", "items": signature}
    properties = {"payload": inside, "payloadType": {"type": "string"}, "signatures": signatures}
    return _payload({"type": "object", "properties": properties, "required": list(properties)})


def _operations(found: Iterable[Channel]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each role may do on each channel, and which stage reads it by its durable consumer."""
    for role, allowed in ROLES.items():
        pulled = {each.stream: each.filters for each in STAGES if each.stage == role}
        for channel in found:
            key = _key(channel.id)
            if any(meets(pattern, channel.filter) for pattern in allowed.publish):
                yield f"{role}-sends-{key}", _operation("send", channel)
            consumes = any(meets(each, channel.filter) for each in pulled.get(channel.stream, ()))
            if consumes or any(meets(pattern, channel.filter) for pattern in allowed.subscribe):
                operation = _operation("receive", channel)
                if consumes:
                    operation |= {"x-nats-consumer": role}
                if channel.answer is not None:
                    operation |= {"bindings": {"nats": {"queue": role, "bindingVersion": "0.1.0"}}}
                yield f"{role}-receives-{key}", operation


def _operation(action: str, channel: Channel) -> dict[str, Any]:
    place = f"#/channels/{_key(channel.id)}"
    found: dict[str, Any] = {"action": action, "channel": {"$ref": place}}
    if channel.answer is not None:
        key = _key(channel.id)
        found["messages"] = [{"$ref": f"{place}/messages/{key}"}]
        reply = {"address": {"location": "$message.header#/reply"}, "channel": {"$ref": place}}
        found["reply"] = reply | {"messages": [{"$ref": f"{place}/messages/{key}-answer"}]}
    return found


def meets(pattern: str, subject: str) -> bool:
    """Whether a permission's pattern and a channel's filter have subjects in common."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for one, other in zip(wanted, tokens, strict=False):
        if ">" in (one, other):
            return True
        if one != other and "*" not in (one, other):
            return False

    return len(wanted) == len(tokens)


def _payload(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its dialect named: AsyncAPI's own is older than 2020-12."""
    return {"schemaFormat": _JSON_SCHEMA, "schema": _renamed(schema)}


def _renamed(schema: Any) -> Any:
    """The schema with the names of components as AsyncAPI allows them."""
    if isinstance(schema, list):
        return [_renamed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    prefix = _REFERENCE.partition("{")[0]
    return {
        name: prefix + _key(value.removeprefix(prefix))
        if name == "$ref" and isinstance(value, str) and value.startswith(prefix)
        else _renamed(value)
        for name, value in schema.items()
    }


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_\-]", "_", name)
