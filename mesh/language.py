"""The language that a text is written in: Compact Language Detector 3, whose model is compiled into its package.

Why this one: decision 0052.
"""

from functools import cache
from typing import Any

import gcld3

_LETTERS_MIN = 12  # fewer say nothing
_BYTES_MAX = 1000


def language_of(text: str) -> tuple[str, float]:
    """The language (BCP 47) and the model's confidence (0 to 1); none ("") where it cannot be told."""
    if sum(character.isalpha() for character in text[:_BYTES_MAX]) < _LETTERS_MIN:
        return "", 0.0
    result = _identifier().FindLanguage(text[: 4 * _BYTES_MAX].encode("utf-8", "replace").decode("utf-8"))
    return (str(result.language), float(result.probability)) if result.is_reliable else ("", 0.0)


@cache
def _identifier() -> Any:
    return gcld3.NNetLanguageIdentifier(0, _BYTES_MAX)
