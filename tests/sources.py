"""Source files as syntax trees."""

import ast
from functools import cache
from pathlib import Path


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file.

    A collection of garbage that parses in the middle of it spoils the count of its depth (CPython issue 106905): then
    the second try is whole.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return ast.parse(text)
    except SystemError:
        return ast.parse(text)
