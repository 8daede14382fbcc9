"""The attacks: who attacks with which key, what they do, what must hold and where it is seen; and their table.

The rule: a row is made from the test that carries it out, so docs/security.md cannot list what nothing tries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., Any])

HELD, IN_PART, OPEN = "held", "in part", "**open**"

RISKS = {
    "ASI01": "Agent Goal Hijack",
    "ASI02": "Tool Misuse & Exploitation",
    "ASI03": "Identity & Privilege Abuse",
    "ASI04": "Agentic Supply Chain Vulnerabilities",
    "ASI05": "Unexpected Code Execution",
    "ASI06": "Memory & Context Poisoning",
    "ASI07": "Insecure Inter-Agent Communication",
    "ASI08": "Cascading Failures",
    "ASI09": "Human-Agent Trust Exploitation",
    "ASI10": "Rogue Agents",
}
GROUPS = ("planner", "permits", "limits", "inputs", "people", "governance", "keys", "bus", "model")


@dataclass(frozen=True)
class Attack:
    """One row. ``attacker`` is the key that is used; ``seen`` is what is looked at to know that it held."""

    group: str
    attacker: str
    does: str
    holds: str
    seen: str
    risks: tuple[str, ...]
    test: str
    variants: int
    result: str
    line: int


ATTACKS: dict[str, Attack] = {}
"""By test."""


def attack(group: str, attacker: str, does: str, holds: str, seen: str, *risks: str) -> Callable[[F], F]:
    """Enter a test as an attack. Put it above ``parametrize`` and ``xfail``: each parameter set is a variant."""
    assert group in GROUPS and set(risks) <= set(RISKS)

    def enter(test: F) -> F:
        marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
        variants = prod(len(mark.args[1]) for mark in marks if mark.name == "parametrize")
        result = IN_PART if holds.startswith("in part") else HELD
        if any(mark.name == "xfail" for mark in marks):
            result = OPEN
        name = f"{test.__module__.rpartition('.')[2]}::{test.__name__}"
        line = test.__code__.co_firstlineno
        ATTACKS[name] = Attack(group, attacker, does, holds, seen, risks, name, variants, result, line)
        return test

    return enter


def rows() -> list[str]:
    """The table of docs/security.md, line by line, by group and then as the modules have them."""
    found = [
        "| attacker | does | must hold | seen in | risk | cases | result |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in sorted(ATTACKS.values(), key=_place):
        risks = ", ".join(each.risks)
        cells = (each.attacker, each.does, each.holds, each.seen, risks, f"{each.variants} `{each.test}`", each.result)
        found.append(f"| {' | '.join(cells)} |")
    return found


def _place(each: Attack) -> tuple[int, str, int]:
    return GROUPS.index(each.group), each.test.partition("::")[0], each.line


def coverage() -> list[str]:
    """How many attacks and cases stand for each risk."""
    found = ["| risk | attacks | cases |", "| --- | --- | --- |"]
    for risk, name in RISKS.items():
        mine = [each for each in ATTACKS.values() if risk in each.risks]
        found.append(f"| {risk} {name} | {len(mine)} | {sum(each.variants for each in mine)} |")
    return found
