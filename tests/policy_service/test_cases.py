"""Cases say what policy must answer; a bundle's own cases all come out, and leave no policy untried."""

from pathlib import Path

import pytest

from policy_service.bundle import Bundle, BundleContents, BundleError
from policy_service.cases import run_cases, uncovered
from tests.policy_service.till import make_bundle

POLICIES = """
@id("small") permit (principal, action, resource == Tool::"till.pay") when { context.amount <= 100 };
@id("never") @reason("not today") forbid (principal, action, resource) when { !context.facts.ok };
"""
CASES = """
- {name: fine, tool: till.pay, facts: {ok: true, count: 1}, amount: 100, expect: {verdict: allow, policies: [small]}}
- {name: too much, tool: till.pay, facts: {ok: true, count: 1}, amount: 101, expect: {verdict: deny}}
"""


def test_cases_pass_and_show_which_policies_determined_none() -> None:
    bundle = make_bundle(POLICIES, cases=CASES)
    results = run_cases(bundle)
    assert [(result.case, result.passed) for result in results] == [("fine", True), ("too much", True)]
    assert uncovered(bundle, results) == ("never",)


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("verdict: deny", "verdict allow (no reason), expected deny"),
        ("verdict: allow, policies: [never]", "policies small, expected never"),
        ("verdict: allow, roles: [boss]", "roles none, expected boss"),
        ("verdict: allow, reason: nice", "reason '', expected 'nice'"),
    ],
)
def test_a_case_that_comes_out_otherwise_says_how(expect: str, problem: str) -> None:
    (result,) = run_cases(
        make_bundle(POLICIES, cases=CASES.splitlines()[1].replace("verdict: allow, policies: [small]", expect))
    )
    assert result.problems == (problem,)


@pytest.mark.parametrize(
    "text", ["- {name: x}", "a: [", "- {name: x, tool: y, expect: {verdict: maybe}}", "- !!set {}"]
)
def test_a_file_that_is_no_list_of_cases_is_named(text: str) -> None:
    with pytest.raises(BundleError, match=r"cases/till\.yaml"):
        run_cases(make_bundle(POLICIES, cases=text))


def test_all_cases_of_the_shop_pass_and_leave_no_policy_untried(retail_policies: Path) -> None:
    bundle = Bundle.load(BundleContents.read(retail_policies, "retail"))
    results = run_cases(bundle)
    assert [(result.file, result.case, result.problems) for result in results if not result.passed] == []
    assert uncovered(bundle, results) == ()
    assert len({(result.file, result.case) for result in results}) == len(results)
