"""Whether what a model says occurs in what it was shown: an id or amount that occurs nowhere was made up.

The rule: a value is grounded when it stands somewhere as a whole, not as a part of another word or number.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
# What in a sentence is a claim: anything with a digit, and addresses of mail or web pages.
_CLAIM = re.compile(r"[^\s,;!?()\"'<>]*(?:\d|@|://)[^\s,;!?()\"'<>]*")
_EDGES = ".:#*"


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
        whole = re.compile(rf"(?<!\w){re.escape(plain)}(?!\w)")
        if any(whole.search(text) for text in self._texts):
            return True
        number = _number(plain)
        return number is not None and number in self._numbers

    def claims_missing(self, text: str) -> list[str]:
        """What a sentence claims that occurs nowhere: its numbers, ids and addresses."""
        claims = (found.strip(_EDGES) for found in _CLAIM.findall(text))
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
