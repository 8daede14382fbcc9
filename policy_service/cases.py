"""The cases of a bundle: a table of what policy must answer, so that a change of policy shows what it changes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import yaml

from mesh.pack import Sheet
from mesh.records import EMPTY_OBJECT, Json, Obligation, StepVerdict, Struct, Verdict
from policy_service.bundle import Bundle, BundleContents, BundleError
from policy_service.engine import Question, judge, judge_approval

# What a case is asked with unless it says otherwise: a Friday noon.
DEFAULTS: Mapping[str, str | int | bool] = {
    "total": 0,
    "agent": "planner",
    "domain": "",
    "entity": "",
    "playbook": "",
    "origin": "playbook",
    "stage": "",
    "now": 1_767_355_200,
    "hour": 12,
    "weekday": 5,
    "compensation": False,
}


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a case expects; only what is given is compared. ``reason`` is the first one; order of names is free.

    ``obligations`` are written ``name:value``, or ``name`` alone where there is no value.
    """

    verdict: Verdict
    policies: tuple[str, ...] | None = None
    reason: str | None = None
    roles: tuple[str, ...] | None = None
    obligations: tuple[str, ...] | None = None


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step to judge. ``amount`` is in minor units; ``approvals`` are roles; ``tainted`` are argument names.

    ``context`` sets what else the schema declares (``policy_service.bundle.EXTRAS``); ``total`` is the amount unless it
    says otherwise. With ``approver``, the roles of a person, the case asks whether that person may approve.
    """

    name: str
    tool: str
    expect: Expected
    facts: Json = EMPTY_OBJECT
    amount: int = 0
    currency: str = "USD"
    approvals: tuple[str, ...] = ()
    tainted: tuple[str, ...] = ()
    context: Mapping[str, str | int | bool] = {}
    approver: tuple[str, ...] = ()


class CaseResult(Struct, frozen=True, kw_only=True):
    """How a case came out; ``problems`` is empty when it came out as expected."""

    file: str
    case: str
    verdict: StepVerdict
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything that the case expects was so."""
        return not self.problems


def read_cases(contents: BundleContents) -> list[tuple[str, Case]]:
    """The cases of a bundle, each with its file; raises ``BundleError`` naming the file."""
    return [
        (name, case)
        for name, text in contents.files
        if name.startswith("cases/") and name.endswith(".yaml")
        for case in _read_file(name, text)
    ]


def run_cases(bundle: Bundle) -> list[CaseResult]:
    """Judge every case; raises ``BundleError`` for a file of cases that cannot be read."""
    return [_run(bundle, file, case) for file, case in read_cases(bundle.contents)]


def coverage(bundle: Bundle, results: Iterable[CaseResult]) -> dict[str, int]:
    """How many cases each policy determined, by its id."""
    counts = Counter(policy for result in results for policy in result.verdict.policies)
    return {policy: counts[policy] for policy in sorted(bundle.policies)}


def uncovered(bundle: Bundle, results: Iterable[CaseResult]) -> tuple[str, ...]:
    """Ids of the policies that determined no case."""
    return tuple(policy for policy, cases in coverage(bundle, results).items() if not cases)


def _read_file(name: str, text: str) -> tuple[Case, ...]:
    try:
        table: Any = yaml.safe_load(text)
        return msgspec.json.decode(msgspec.json.encode(table or []), type=tuple[Case, ...])
    except (yaml.YAMLError, msgspec.MsgspecError, TypeError) as error:
        raise BundleError(name, f"is no list of cases: {error}") from error


def _run(bundle: Bundle, file: str, case: Case) -> CaseResult:
    sheet = Sheet(facts=case.facts, amount=case.amount, currency=case.currency)
    extras = {**DEFAULTS, "total": case.amount, **case.context}
    question = Question(step=case.name, tool=case.tool, sheet=sheet, tainted=frozenset(case.tainted), extras=extras)
    if case.approver:
        verdict = judge_approval(bundle, question, "somebody", case.approver)
    else:
        verdict = judge(bundle, question, frozenset(case.approvals))
    return CaseResult(file=file, case=case.name, verdict=verdict, problems=tuple(_compare(case.expect, verdict)))


def _compare(expected: Expected, verdict: StepVerdict) -> Iterable[str]:
    first = verdict.reasons[0] if verdict.reasons else ""
    if expected.verdict is not verdict.verdict:
        yield f"verdict {verdict.verdict} ({first or 'no reason'}), expected {expected.verdict}"
    if expected.reason is not None and expected.reason != first:
        yield f"reason {first!r}, expected {expected.reason!r}"
    named: Mapping[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
        "policies": (verdict.policies, expected.policies),
        "roles": (verdict.roles, expected.roles),
        "obligations": (tuple(map(_written, verdict.obligations)), expected.obligations),
    }
    for what, (got, wanted) in named.items():
        if wanted is not None and set(got) != set(wanted):
            yield f"{what} {', '.join(sorted(got)) or 'none'}, expected {', '.join(sorted(wanted)) or 'none'}"


def _written(obligation: Obligation) -> str:
    return f"{obligation.name}:{obligation.value}" if obligation.value else obligation.name
