"""Bringing two texts of one base together, line by line. Pure.

The rule: nothing that either side wrote is lost; where both changed the same lines, the merge is not clean, and what it
proposes holds both.
"""

import msgspec
from merge3 import Merge3


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a merge; ``conflicts`` counts the places that both sides changed, where it holds both."""

    text: str
    conflicts: int = 0

    @property
    def clean(self) -> bool:
        """Whether the sides changed different places."""
        return self.conflicts == 0


def merge(base: str, ours: str, theirs: str) -> Merged:
    """Merge two texts. At a conflict what stands (``theirs``) comes first, then what was handed in."""
    sides = [_lines(text) for text in (base, ours, theirs)]
    merged: list[str] = []
    conflicts = 0
    for kind, *lines in Merge3(sides[0], sides[1], sides[2]).merge_groups():
        if kind == "conflict":
            conflicts += 1
            _, mine, standing = lines
            merged += [*standing, *(line for line in mine if line not in standing)]
        else:
            merged += lines[0]
    return Merged(text="".join(merged), conflicts=conflicts)


def _lines(text: str) -> list[str]:
    """The lines with their ends; the last one has one too, or it would differ from the same line further up."""
    return [line + "\n" for line in text.split("\n")[: -1 if text.endswith("\n") else None]]
