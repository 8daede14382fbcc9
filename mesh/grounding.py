"""Whether what a model says occurs in what it was shown: an id or amount that occurs nowhere was made up.

The rule: a value is grounded when it stands somewhere as a whole, not as a part of another word or number.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
# What in a sentence is a claim: a word with a digit, and addresses of mail or web pages. Found word by word: one
# pattern for both takes seconds for a word of 10,000 letters.
_WORD = re.compile(r"[^\s,;!?()\"'<>]+")
_CLAIM = re.compile(r"\d|@|://")
# A word goes on over a dash or a dot between letters: "A" is no part of "A-1", nor "49" of "49.90".
_BEFORE = r"(?<!\w)(?<!\w[-.])"
_AFTER = r"(?!\w)(?![-.]\w)"
_EDGES = ".:*"


class Sources:
    """The texts and numbers that a model was shown; of JSON, all its strings and numbers."""

    def __init__(self, values: Iterable[Any]) -> None:
        leaves = [leaf for value in values for _, leaf in leaves_of(value)]
        self._texts = [_plain(leaf) for leaf in leaves if isinstance(leaf, str) and leaf.strip()]
        self._numbers = {Decimal(str(leaf)) for leaf in leaves if not isinstance(leaf, str)}
        self._numbers |= {number for text in self._texts for number in _numbers(text)}

    def holds(self, value: str | float) -> bool:
        """Whether this value occurs as a whole; one without any letter or digit says nothing, and is held."""
        if not isinstance(value, str):
            return Decimal(str(value)) in self._numbers
        plain = _plain(value)
        if not any(char.isalnum() for char in plain):
            return True
        whole = re.compile(_BEFORE + re.escape(plain) + _AFTER)
        if any(whole.search(text) for text in self._texts):
            return True
        number = _number(plain)
        return number is not None and number in self._numbers

    def claims_missing(self, text: str) -> list[str]:
        """What a sentence claims that occurs nowhere: its numbers, ids and addresses."""
        claims = (found.strip(_EDGES) for found in _WORD.findall(text) if _CLAIM.search(found))
        return [claim for claim in dict.fromkeys(claims) if claim and not self.holds(claim)]


def leaves_of(value: Any, path: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Every string and number of a JSON value with its JSON pointer (RFC 6901)."""
    match value:
        case bool() | None:
            return
        case str() | int() | float():
            yield path, value
        case list() | tuple():
            for n, item in enumerate(value):
                yield from leaves_of(item, f"{path}/{n}")
        case dict():
            for key, item in value.items():
                yield from leaves_of(item, f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}")


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip().casefold()


def _numbers(text: str) -> Iterator[Decimal]:
    yield from (Decimal(found) for found in _NUMBER.findall(text))


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:
        return None
