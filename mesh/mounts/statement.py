"""A SQL statement of a mount: one command, with named parameters, and never put together from texts.

The rule: what is sent is what was reviewed, letter by letter; values go beside it.
"""

import re
from dataclasses import dataclass

from mesh.errors import SettingsError

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>--|/\*)
      | (?P<string>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*")
      | (?P<cast>::)
      | (?P<parameter>:[A-Za-z_][A-Za-z0-9_]*)
      | (?P<word>[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)
      | (?P<number>\d[A-Za-z0-9_.]*)
      | (?P<foreign>[\\$`\[\]?@;#]|')
      | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_READS = {"select", "values", "with"}
_EFFECTS = _READS | {"insert", "update", "delete", "merge", "replace"}
_WRITES = {"insert", "update", "delete", "merge", "replace"}
_TABLE = "workmesh_effect"


@dataclass(frozen=True, slots=True)
class Statement:
    """One command: its text, the names of its parameters in order, and each parameter's place in the text."""

    text: str
    names: tuple[str, ...]
    places: tuple[tuple[int, int], ...]

    def numbered(self) -> tuple[str, tuple[str, ...]]:
        """The text with ``$1`` and so on in the place of names, and the name for each number."""
        order = tuple(dict.fromkeys(self.names))
        parts: list[str] = []
        done = 0
        for name, (start, end) in zip(self.names, self.places, strict=True):
            parts += [self.text[done:start], f"${order.index(name) + 1}"]
            done = end
        return "".join([*parts, self.text[done:]]), order


def parse(tool: str, text: str, *, read_only: bool) -> Statement:
    """The statement; raises ``SettingsError`` for several, for comments, and for commands that are not for tools."""
    text = text.strip().removesuffix(";").rstrip()
    names: list[str] = []
    places: list[tuple[int, int]] = []
    words: list[str] = []
    before = ""
    for match in _TOKEN.finditer(text):
        kind, part = match.lastgroup, match.group()
        if kind in ("comment", "foreign"):
            raise SettingsError(
                f"{tool}: {part!r} in its statement: one command, without comments, parameters as :name"
            )
        if kind == "string" and before in ("e", "u&", "x", "b", "n"):
            raise SettingsError(f"{tool}: a text with escapes ({before}'...') in its statement: write it plainly")
        if kind == "parameter":
            names.append(part[1:])
            places.append(match.span())
        if kind == "word":
            words.append(part.lower())
        before = part.lower()
    allowed = _READS if read_only else _EFFECTS
    if not words or words[0] not in allowed:
        raise SettingsError(f"{tool}: a statement begins with one of {', '.join(sorted(allowed))}")
    if read_only and (wrong := _WRITES.intersection(words) - {"replace"}):
        raise SettingsError(f"{tool} is for reading only, and its statement has {', '.join(sorted(wrong))}")
    if _TABLE in text.lower():
        raise SettingsError(f"{tool}: {_TABLE} is the mount's own table")
    return Statement(text, tuple(names), tuple(places))
