"""Pins: the definitions of a server's tools as a person reviewed them, in a file beside the mount's.

The rule: a tool is called only while its server still defines it as it is pinned.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from mesh import files
from mesh.canonical import canonical_json, digest
from mesh.errors import SettingsError
from mesh.mounts.declaration import Part
from mesh.records import Json

_LARGEST = 128 * 1024  # name, description and schema of one tool


class Pinned(Part, frozen=True, kw_only=True):
    """One tool as its server defined it when it was reviewed."""

    name: str
    description: str
    input_schema: Json
    digest: str


class Pins(Part, frozen=True, kw_only=True):
    """The file: tools of a server, or the digest of a document."""

    tools: tuple[Pinned, ...] = ()
    document: str = ""


def definition_digest(name: str, description: str, input_schema: object) -> str:
    """The digest of what a model or a person is told of a tool: its name, description and input schema."""
    return digest({"name": name, "description": description, "input_schema": input_schema})


def pinned(name: str, description: str, input_schema: object) -> Pinned:
    """A definition, with its digest; raises ``SettingsError`` for one too large to be reviewed."""
    schema = canonical_json(input_schema)
    if len(schema) + len(description) + len(name) > _LARGEST:
        raise SettingsError(f"tool {name[:100]} is defined in more than {_LARGEST} bytes: nobody can review that")
    return Pinned(
        name=name,
        description=description,
        input_schema=Json(schema),
        digest=definition_digest(name, description, input_schema),
    )


def pins_path(mount: Path) -> Path:
    """Where the pins of a mount's file are."""
    return mount.with_suffix(".pins.json")


def read_pins(mount: Path) -> Pins:
    """The pins beside a mount's file, none if there is no such file; raises ``SettingsError`` for a broken one."""
    path = pins_path(mount)
    try:
        pins = msgspec.json.decode(path.read_bytes(), type=Pins)
    except FileNotFoundError:
        return Pins()
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"the pins {path} cannot be read: {error}") from error
    for each in pins.tools:
        if each.digest != definition_digest(each.name, each.description, each.input_schema):
            raise SettingsError(f"the pins {path}: {each.name} was changed by hand; pin it with `workmesh tools pin`")
    return pins


def write_pins(mount: Path, pins: Pins) -> None:
    """Put the pins beside a mount's file, whole or not at all, in a form that version control shows well."""
    data = msgspec.json.format(msgspec.json.encode(pins, order="sorted"), indent=2) + b"\n"
    files.put(pins_path(mount), data, 0o644)


def merged(old: Pins, new: Iterable[Pinned], keep: Iterable[str]) -> Pins:
    """The pins with these in place of those of the same name; only names in ``keep`` stay."""
    found: Mapping[str, Pinned] = {each.name: each for each in (*old.tools, *new)}
    wanted = set(keep)
    return Pins(tools=tuple(found[name] for name in sorted(found) if name in wanted))
