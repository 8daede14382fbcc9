"""Whether a condition caps ``context.amount``: read from Cedar's JSON form of it, without evaluating anything.

What is understood: ``&&``, ``||``, ``!``, ``if``, and comparisons of ``context.amount`` itself with something that does
not hold it. A comparison with a number is a cap; one with another value (a fact, say) is a cap that moves with it.
Anything else (a sum, a function, a set) counts as no cap: so a finding can be wrong about a clever condition, never
the other way round.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

_AMOUNT = {".": {"left": {"Var": "context"}, "attr": "amount"}}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "!=": "=="}
_CAPPING = ("<", "<=", "==")


class Cap(IntEnum):
    """How far a condition that holds limits the amount."""

    NONE = 0
    MOVING = 1
    FIXED = 2


Expr = Mapping[str, Any]


def cap_when(conditions: Sequence[Expr]) -> Cap:
    """The cap that holds wherever all of a policy's conditions do."""
    return max((_cap(each["body"], each["kind"] == "when") for each in conditions), default=Cap.NONE)


def cap_unless(conditions: Sequence[Expr]) -> Cap:
    """The cap that holds wherever not all of a policy's conditions do: what a forbid leaves."""
    return min((_cap(each["body"], each["kind"] != "when") for each in conditions), default=Cap.FIXED)


def _cap(expr: Expr, holds: bool) -> Cap:
    """The cap on the amount wherever the expression is (or is not, without ``holds``) true."""
    (operator, parts), *_ = expr.items()
    match operator:
        case "&&" | "||":
            sides = (_cap(parts["left"], holds), _cap(parts["right"], holds))
            return max(sides) if (operator == "&&") is holds else min(sides)
        case "!":
            return _cap(parts["arg"], not holds)
        case "Value":
            return Cap.NONE if parts is holds or not isinstance(parts, bool) else Cap.FIXED
        case "if-then-else":
            yes = max(_cap(parts["if"], True), _cap(parts["then"], holds))
            return min(yes, max(_cap(parts["if"], False), _cap(parts["else"], holds)))
        case "<" | "<=" | ">" | ">=" | "==" | "!=":
            return _compared(operator, parts["left"], parts["right"], holds)
    return Cap.NONE


def _compared(operator: str, left: Expr, right: Expr, holds: bool) -> Cap:
    name: str | None = operator if holds else _NEGATED.get(operator)
    if right == _AMOUNT:
        left, right = right, left
        name = _FLIPPED.get(name or "")
    if left != _AMOUNT or name not in _CAPPING or _holds_amount(right):
        return Cap.NONE
    return Cap.FIXED if _is_number(right) else Cap.MOVING


def _is_number(expr: Expr) -> bool:
    """Whether it is made of literals alone."""
    (operator, parts), *_ = expr.items()
    match operator:
        case "Value":
            return isinstance(parts, int) and not isinstance(parts, bool)
        case "neg":
            return _is_number(parts["arg"])
        case "+" | "-" | "*":
            return _is_number(parts["left"]) and _is_number(parts["right"])
    return False


def _holds_amount(part: object) -> bool:
    if part == _AMOUNT:
        return True
    if isinstance(part, Mapping):
        return any(_holds_amount(each) for each in part.values())
    return isinstance(part, list) and any(_holds_amount(each) for each in part)
