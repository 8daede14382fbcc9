"""The text of each policy as it was written, found in the file by its ``@id``, without the comments before it."""

import re

_ID = re.compile(r'@id\s*\(\s*"([^"]*)"\s*\)')
_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|;', re.DOTALL)


def policy_texts(text: str) -> dict[str, str]:
    """The policies of a file by id; those without one are left out."""
    found: dict[str, str] = {}
    start = 0
    for token in _TOKEN.finditer(text):
        if token[0] != ";":
            continue
        written = _without_comments_before(text[start : token.end()])
        start = token.end()
        if named := _ID.search(written):
            found[named[1]] = written
    return found


def _without_comments_before(text: str) -> str:
    lines = text.strip().splitlines()
    while lines and (lines[0].lstrip().startswith("//") or not lines[0].strip()):
        del lines[0]
    return "\n".join(lines)
