"""The table of attacks in docs/security.md is that of the tests; `python -m tests.redteam.page` writes it anew."""

from tests.redteam.catalogue import ATTACKS, RISKS
from tests.redteam.page import PAGE, written


def test_the_table_of_attacks_is_that_of_the_tests() -> None:
    assert PAGE.read_text(encoding="utf-8") == written(PAGE.read_text(encoding="utf-8")), (
        "docs/security.md is out of date: run `python -m tests.redteam.page`"
    )


def test_every_attack_says_what_risk_it_stands_for() -> None:
    assert ATTACKS
    for each in ATTACKS.values():
        assert each.risks and all((each.attacker, each.does, each.holds, each.seen)), each
    assert {risk for each in ATTACKS.values() for risk in each.risks} <= set(RISKS)
