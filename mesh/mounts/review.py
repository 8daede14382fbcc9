"""Reviewing mounts: what a target offers now beside what was pinned, and accepting it.

The rule: nothing is pinned but what was just seen, and only for tools that the pack mounts.
"""

from enum import StrEnum

import msgspec

from mesh.errors import SettingsError
from mesh.mounts.declaration import document_digest, source_of
from mesh.mounts.folder import Mount
from mesh.mounts.mcp import McpMount
from mesh.mounts.mcp_server import Definition
from mesh.mounts.openapi import OpenApiMount, read_document
from mesh.mounts.openapi_document import find_operation
from mesh.mounts.pins import Pins, merged, pinned, read_pins, write_pins
from mesh.records import NULL, Json


class Standing(StrEnum):
    """How what is there now stands to what was pinned."""

    PINNED = "pinned"
    NEW = "new"
    CHANGED = "changed"
    GONE = "gone"
    OFFERED = "offered"


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """One tool, or one document. What the server says stands here for people to read, and is followed by nobody."""

    mount: str
    tool: str
    name: str
    standing: Standing
    pinned: str = ""
    now: str = ""
    description: str = ""
    input_schema: Json = NULL


async def review(mount: Mount) -> tuple[Reviewed, ...]:
    """What is to be said of a mount; raises ``NotSentError`` when its server cannot be asked."""
    source = source_of(mount.path)
    if isinstance(mount, OpenApiMount):
        return (_document(mount, source),)
    if not isinstance(mount, McpMount):
        return ()
    async with mount.open() as server:
        there = await server.definitions()
    names = {each.name: each.tool for each in mount.file.tools}
    found = [_tool(source, tool, name, mount, there.get(name)) for name, tool in names.items()]
    offered = [_tool(source, "", name, mount, there[name]) for name in sorted(there.keys() - names.keys())]
    return (*found, *offered)


async def accept(mount: Mount, only: tuple[str, ...] = ()) -> tuple[Reviewed, ...]:
    """Pin what a mount's target offers now, for all its tools or those named; what was accepted.

    Raises ``SettingsError`` for a tool that is not mounted, or that the server does not offer.
    """
    source = source_of(mount.path)
    if unknown := set(only) - {each.tool for each in mount.declarations}:
        raise SettingsError(f"{source} mounts no tool named {', '.join(sorted(unknown))}")
    if isinstance(mount, OpenApiMount):
        document = read_document(mount.document)
        for each in mount.file.tools:
            find_operation(document, each.operation)
        write_pins(mount.path, Pins(document=document_digest(mount.document)))
        return (_document(mount, source),)
    if not isinstance(mount, McpMount):
        raise SettingsError(f"{source} needs no pins: all that its tools are stands in it")
    async with mount.open() as server:
        there = await server.definitions()
    wanted = [each for each in mount.file.tools if not only or each.tool in only]
    if missing := [each.name for each in wanted if each.name not in there]:
        raise SettingsError(f"{mount.target} offers no tool named {', '.join(missing)}")
    new = [pinned(each.name, there[each.name].description, there[each.name].input_schema) for each in wanted]
    if twice := [each.name for each in new if each.digest != there[each.name].digest]:
        raise SettingsError(f"{mount.target} defines {', '.join(twice)} twice: it cannot be pinned")
    write_pins(mount.path, merged(read_pins(mount.path), new, [each.name for each in mount.file.tools]))
    again = McpMount(mount.path, mount.file, {each.name: each for each in read_pins(mount.path).tools})
    return tuple(_tool(source, each.tool, each.name, again, there[each.name]) for each in wanted)


def _tool(source: str, tool: str, name: str, mount: McpMount, there: Definition | None) -> Reviewed:
    pin = mount.pins.get(name)
    old, now = pin.digest if pin else "", there.digest if there else ""
    if not tool:
        standing = Standing.OFFERED
    elif not now:
        standing = Standing.GONE
    elif not old:
        standing = Standing.NEW
    else:
        standing = Standing.PINNED if old == now else Standing.CHANGED
    return Reviewed(
        mount=source,
        tool=tool,
        name=name,
        standing=standing,
        pinned=old,
        now=now,
        description=there.description if there else "",
        input_schema=Json(msgspec.json.encode(there.input_schema)) if there else NULL,
    )


def _document(mount: OpenApiMount, source: str) -> Reviewed:
    old, now = read_pins(mount.path).document, document_digest(mount.document)
    standing = Standing.PINNED if old == now else Standing.CHANGED if old else Standing.NEW
    return Reviewed(mount=source, tool="", name=mount.file.document, standing=standing, pinned=old, now=now)
