"""What can be seen in an event's text without understanding it: entities, intent, urgency, language, with their places.

The rule: what is found is a hint with a confidence and a place, and never an argument of an effect by itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from mesh.language import language_of
from mesh.record import Found

INTENT, URGENCY, LANGUAGE = "intent", "urgency", "language"

_MATCHES_MAX = 20  # of one finder in one field
_SEARCHED = 16_384  # characters of one field
_SURE = 0.8


@dataclass(frozen=True)
class Finder:
    """A pattern (``re``) that is looked for in text from outside; the first group, else all of it, is what was found.

    ``name`` is what it is: the kind of an entity such as ``order``, ``intent`` or ``urgency``. With a ``value`` the
    match stands for that. ``confidence`` is how often such a match means what it says, 0 to 1.
    """

    name: str
    pattern: str
    value: str = ""
    confidence: float = 1.0

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern, compiled; letter case does not count."""
        return re.compile(self.pattern, re.IGNORECASE)


def find(data: bytes, pointers: Iterable[str], finders: Sequence[Finder]) -> tuple[Found, ...]:
    """What these finders see in the text fields of an event's data, and in which language the longest is written."""
    if not finders:
        return ()
    plain = msgspec.json.decode(data)
    texts = {pointer: text for pointer in pointers if isinstance(text := _at(plain, pointer), str)}
    found = [each for pointer, text in texts.items() for each in _in(pointer, text[:_SEARCHED], finders)]
    pointer = max(texts, key=lambda name: len(texts[name]), default="")
    if pointer:
        language, confidence = language_of(texts[pointer])
        if language:
            found.append(
                Found(
                    name=LANGUAGE,
                    value=language,
                    pointer=pointer,
                    start=0,
                    end=len(texts[pointer]),
                    confidence=round(confidence, 3),
                )
            )
    return tuple(found)


def sure(found: Iterable[Found], name: str) -> str:
    """The value of this name, where just one was found and with confidence; else none ('')."""
    values = {each.value for each in found if each.name == name and each.confidence >= _SURE}
    return values.pop() if len(values) == 1 else ""


def _in(pointer: str, text: str, finders: Sequence[Finder]) -> Iterator[Found]:
    for finder in finders:
        for number, match in enumerate(finder.regex.finditer(text)):
            if number == _MATCHES_MAX:
                break
            group = 1 if finder.regex.groups and match.group(1) is not None else 0
            yield Found(
                name=finder.name,
                value=finder.value or match.group(group),
                pointer=pointer,
                start=match.start(group),
                end=match.end(group),
                confidence=finder.confidence,
            )


def _at(plain: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        plain = plain.get(name) if isinstance(plain, dict) else None
    return plain
