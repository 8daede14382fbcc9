"""What the executor needs of a pack: tools whose declarations fit together, so that what is in doubt can be settled."""

from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import msgspec

from mesh.checks import Finding, fields_of, reaches, tools_of
from mesh.pack import Pack
from mesh.tools import Recovery, Tool

_CODE = "pack.py"


def check(pack: Pack) -> Iterator[Finding]:
    """What is wrong with the tools' declarations."""
    seen: set[str] = set()
    for tool in pack.tools(pack.read_options(None)):
        if tool.name in seen:
            yield _at(tool, "is declared twice: leave one")
        seen.add(tool.name)
    tools = tools_of(pack)
    for tool in tools.values():
        yield from _named(pack, tool)
        yield from _recovered(tool)
        yield from _undone(tool, tools)
        yield from _answered(tool)


def _named(pack: Pack, tool: Tool) -> Iterator[Finding]:
    if not tool.name.startswith(f"{pack.name}."):
        yield _at(tool, f"is not named after the pack: begin its name with `{pack.name}.`")
    if not tool.read_only and fields_of(tool.args) and not tool.args.__struct_config__.forbid_unknown_fields:
        problem = f"{tool.args.__name__} lets unknown arguments pass: declare it with `forbid_unknown_fields=True`"
        yield _at(tool, problem)


def _recovered(tool: Tool) -> Iterator[Finding]:
    if tool.verify is not None and tool.recovery is Recovery.MANUAL:
        yield _at(tool, "has a verify function that is never asked, since it is manual: declare Recovery.VERIFIABLE")


def _undone(tool: Tool, tools: Mapping[str, Tool]) -> Iterator[Finding]:
    if not tool.compensation:
        return
    undo = tools.get(tool.compensation)
    if tool.read_only:
        yield _at(tool, "only reads, and yet names a compensation: remove it")
    elif undo is None:
        yield _at(tool, f"its compensation {tool.compensation} is no tool of the pack: {', '.join(sorted(tools))} are")
    elif undo.read_only:
        yield _at(tool, f"its compensation {tool.compensation} only reads, and undoes nothing")
    elif undo is tool:
        yield _at(tool, "is named as its own compensation")


def _answered(tool: Tool) -> Iterator[Finding]:
    """The pointers to text from outside, against the struct that the function says it returns."""
    try:
        answer: Any = get_type_hints(tool.run).get("return")
    except (NameError, TypeError):
        return
    if not (isinstance(answer, type) and issubclass(answer, msgspec.Struct)) or answer is msgspec.Struct:
        return
    for pointer in tool.outside:
        if not reaches(answer, pointer):
            known = ", ".join(f"/{name}" for name in fields_of(answer))
            yield _at(tool, f"outside {pointer!r} leads to nothing in its answer {answer.__name__}, which has {known}")


def _at(tool: Tool, problem: str) -> Finding:
    return Finding(file=_CODE, place=f"tool {tool.name}", problem=problem)
