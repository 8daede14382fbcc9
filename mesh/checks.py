"""What can be wrong with a pack before it runs: each part checks what it will use (entry points ``workmesh.checks``).

The rule: a check runs nothing of the pack's but what a start would, asks no system, and names file, place and way out.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

import msgspec

from mesh.pack import Pack
from mesh.records import Struct
from mesh.tools import Tool

GROUP = "workmesh.checks"

_LINE = re.compile(r"line (\d+)")


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong: the file, the place in it ("" for all of it), and the problem with the way out."""

    file: str
    place: str
    problem: str

    @property
    def line(self) -> str:
        """The finding for people, in one line."""
        return ": ".join(part for part in (self.file, self.place, self.problem) if part)


Check = Callable[[Pack], Iterable[Finding]]
"""What a part registers: everything that it finds wrong with a pack, whose options have their defaults."""


def load_checks() -> dict[str, Check]:
    """The checks of all parts, by name."""
    return {point.name: point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def tools_of(pack: Pack) -> dict[str, Tool]:
    """The tools of a pack as its default options have them; raises ``SettingsError``."""
    return {tool.name: tool for tool in pack.tools(pack.read_options(None))}


def root_of(pack: Pack) -> Path:
    """The folder of the pack's code, which its playbooks, policies and samples are in."""
    return pack.playbooks.parent


def shown(path: Path, pack: Pack) -> str:
    """A path of a pack, as seen from its folder."""
    return path.relative_to(root_of(pack)).as_posix() if path.is_relative_to(root_of(pack)) else str(path)


def wrong_file(path: Path, pack: Pack, error: Exception) -> Finding:
    """An error of loading a file as a finding: what stands before the problem in its message is the place."""
    message = str(error)
    for name in (str(path), path.name):
        before, known, after = message.partition(name)
        if known and len(before) < 20:
            message = after.lstrip(": ")
            break
    if found := _LINE.search(message):
        return Finding(file=shown(path, pack), place=f"line {found[1]}", problem=" ".join(message.split()))
    place, colon, problem = message.partition(": ")
    if not colon or len(place) > 80 or place[:1].isupper():
        place, problem = _pointed(message), message
    return Finding(file=shown(path, pack), place=place, problem=problem)


def _pointed(message: str) -> str:
    """The place that msgspec names at the end, such as ``$.steps[0].tool``."""
    return message.rpartition(" - at `")[2].rstrip("`") if " - at `" in message else ""


def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.inspect.Field]:
    """The fields of a struct, by their names in JSON."""
    found = msgspec.inspect.type_info(kind)
    return {field.encode_name: field for field in found.fields} if isinstance(found, msgspec.inspect.StructType) else {}


def reaches(kind: type[msgspec.Struct], pointer: str) -> bool:
    """Whether a JSON pointer ("" is all of it) leads to something that a struct has."""
    if not pointer:
        return True
    if not pointer.startswith("/"):
        return False
    at: list[msgspec.inspect.Type] = [msgspec.inspect.type_info(kind)]
    for part in pointer[1:].split("/"):
        at = [inner for each in at for inner in _inside(each, part.replace("~1", "/").replace("~0", "~"))]
    return bool(at)


def _inside(kind: msgspec.inspect.Type, name: str) -> Iterable[msgspec.inspect.Type]:
    """The types that stand under a name, or a place of a list, of a value of this type."""
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            yield from _inside(inner, name)
        case msgspec.inspect.UnionType(types=types):
            for each in types:
                yield from _inside(each, name)
        case msgspec.inspect.StructType(fields=fields):
            yield from (field.type for field in fields if field.encode_name == name)
        case msgspec.inspect.DictType(value_type=inner):
            yield inner
        case msgspec.inspect.CollectionType(item_type=inner) if name.isdigit() or name in ("*", "-"):
            yield inner
        case msgspec.inspect.AnyType() | msgspec.inspect.RawType():
            yield kind
        case _:
            return
