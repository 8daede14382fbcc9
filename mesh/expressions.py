"""CEL expressions, compiled once, and the variables that they see.

The rule: an expression has no effect; what it cannot be evaluated on is an error that names it.
"""

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import msgspec

from mesh.errors import SettingsError
from mesh.events import check_depth

# ``cel`` imports its own command line, and with it prompt_toolkit: half of a planner's start and 18 MB.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
cel = importlib.import_module("cel")


_SEARCHED = 100_000  # characters
_AMOUNTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"([+-]?)(\d+)(?:[.,](\d{1,2}))?",
        r"([+-]?)(\d{1,3}(?:[. \u00a0]\d{3})+),(\d{1,2})",
        r"([+-]?)(\d{1,3}(?:[,' \u00a0]\d{3})+)\.(\d{1,2})",
        r"([+-]?)(\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:,\d{3}){2,})()",
    )
)


def _minor(text: str) -> int:
    """An amount such as ``1.234,50``, ``1,234.5`` or ``12`` in hundredths; raises ``ValueError`` when it is not one.

    ``1,234`` could be either of two amounts, and so is none.
    """
    for pattern in _AMOUNTS:
        if found := pattern.fullmatch(text.strip()):
            sign, whole, part = found.groups(default="")
            return int(sign + re.sub(r"\D", "", whole) + part.ljust(2, "0"))
    raise ValueError(f"{text[:40]!r} is no amount, or could be two")


def _match(text: str, pattern: str) -> str:
    """The first group (else all) of the first place that a pattern (``re``) fits; "" where it fits nowhere."""
    found = re.search(pattern, text[:_SEARCHED])
    return (found[1] if found.re.groups else found[0]) or "" if found else ""


def _json(text: str) -> Any:
    """The value of a JSON text; raises ``ValueError`` for none, or one that is nested too deep."""
    data = text.encode()
    check_depth(data)
    return msgspec.json.decode(data)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "first": lambda text, count: text[: max(count, 0)],
    "lower": lambda text: text.lower(),
    "trim": lambda text: text.strip(),
    "minor": _minor,
    "match": _match,
    "json": _json,
}
"""What expressions may call beside CEL's own: ``first(text, n)``, ``lower(text)``, ``trim(text)``, ``minor(text)``,
``match(text, pattern)``, ``json(text)``."""


class ExpressionError(Exception):
    """An expression could not be evaluated on these values; the message names it."""


class Variables:
    """What expressions see. CEL's own form of it is made once: that costs more than most expressions."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Raises ``ExpressionError`` for values that CEL has no form of, such as text with half a surrogate pair."""
        self._values = dict(values)
        try:
            self.context = cel.Context(variables=self._values)
        except (ValueError, TypeError, OverflowError) as error:
            raise ExpressionError(str(error)) from error
        for name, function in FUNCTIONS.items():
            self.context.add_function(name, function)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def names(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._values)

    def put(self, name: str, value: Any) -> None:
        """Add or replace one."""
        self._values[name] = value
        try:
            self.context.add_variable(name, value)
        except (ValueError, TypeError, OverflowError) as error:
            raise ExpressionError(f"{name}: {error}") from error


class Expression:
    """A compiled CEL expression."""

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self._place = place
        try:
            self._program = cel.compile(text)
        except Exception as error:
            raise SettingsError(f"{place}: {text!r} is no CEL expression: {error}") from error

    def value(self, variables: Variables) -> Any:
        """Its value as plain Python; raises ``ExpressionError``."""
        try:
            return self._program.execute(variables.context)
        except Exception as error:
            raise ExpressionError(f"{self._place}: {self.text!r}: {error}") from error

    def holds(self, variables: Variables) -> bool:
        """Whether the condition holds; anything but a boolean is an ``ExpressionError``."""
        value = self.value(variables)
        if not isinstance(value, bool):
            raise ExpressionError(f"{self._place}: {self.text!r} is {value!r}, not true or false")
        return value

    def text_value(self, variables: Variables) -> str:
        """Its value, which must be a string."""
        value = self.value(variables)
        if not isinstance(value, str):
            raise ExpressionError(f"{self._place}: {self.text!r} is {value!r}, not a string")
        return value
