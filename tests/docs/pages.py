"""Documentation pages as data: numbered examples, each a list of files to write, Python to run, commands to type.

A page is read as a person would follow it. Fences that count: ``python`` (a ``text`` fence right behind it is what it
prints), ``console`` (lines with ``$ `` are typed, ``> `` continues them, the lines behind are what comes), and any
fence with ``title="path"``, which is a file to write. The comment ``<!-- site: ARGS -->`` starts ``workmesh up ARGS``,
anew where it runs; ``<!-- site: stop -->`` ends it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\s*$")
_EXAMPLE = re.compile(r"^(?:#+ |\*\*)Example (?P<number>\d+): (?P<title>.+?)(?:\*\*)?$")
_SITE = re.compile(r"^<!-- site: (?P<args>.*?) -->$")

Kind = Literal["python", "console", "file", "site"]


@dataclass(frozen=True, slots=True)
class Block:
    """One thing to do. ``name`` is a file's path; ``expected`` is what a Python block prints, if the page says so."""

    kind: Kind
    line: int
    text: str
    name: str = ""
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and what it answers ("" when the page does not say)."""

    text: str
    expected: str


@dataclass(frozen=True, slots=True)
class Example:
    """One numbered example of a page."""

    number: int
    title: str
    line: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block, with the number of its first line of content."""

    language: str
    title: str
    line: int
    end: int
    text: str


def fences(text: str) -> Iterator[Fence]:
    """All fenced blocks of a page, in order."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        if match := _FENCE.match(lines[number]):
            end = lines.index("```", number + 1)
            body = "".join(line + "\n" for line in lines[number + 1 : end])
            yield Fence(match["language"], match["title"] or "", number + 2, end, body)
            number = end
        number += 1


def read_examples(path: Path) -> tuple[Example, ...]:
    """The examples of a page; raises ``ValueError`` for one out of order, or for code outside of any."""
    text = path.read_text(encoding="utf-8")
    blocks = sorted(_blocks(text), key=lambda block: block.line)
    heads = [(n, match) for n, line in enumerate(text.splitlines(), 1) if (match := _EXAMPLE.match(line))]
    numbers = [int(match["number"]) for _, match in heads]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"{path.name}: the examples are numbered {numbers}")
    starts = [n for n, _ in heads]
    if blocks and (not starts or blocks[0].line < starts[0]):
        raise ValueError(f"{path.name}:{blocks[0].line}: code outside of an example is not run")
    ends = [*starts[1:], len(text) + 1][: len(starts)]
    return tuple(
        Example(
            number=int(match["number"]),
            title=match["title"],
            line=start,
            blocks=tuple(block for block in blocks if start < block.line < end),
        )
        for (start, match), end in zip(heads, ends, strict=True)
    )


def commands(block: Block) -> tuple[Command, ...]:
    """The commands of a console block."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return tuple(Command("\n".join(typed), "".join(f"{line}\n" for line in said)) for typed, said in found)


def _blocks(text: str) -> Iterator[Block]:
    found = list(fences(text))
    for number, fence in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else None
        if fence.title:
            yield Block("file", fence.line, fence.text, name=fence.title)
        elif fence.language == "console":
            yield Block("console", fence.line, fence.text)
        elif fence.language == "python":
            follows = after is not None and after.language == "text" and not after.title and after.line <= fence.end + 4
            yield Block("python", fence.line, fence.text, expected=after.text if after and follows else None)
    for place, line in enumerate(text.splitlines(), 1):
        if match := _SITE.match(line):
            yield Block("site", place, match["args"])
