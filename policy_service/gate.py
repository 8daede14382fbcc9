"""The gate of a bundle: it compiles, nothing about it is an error to the linter, and its cases pass.

The rule: the command that publishes and the service that takes it ask the same questions.
"""

from policy_service.bundle import Bundle, BundleContents, BundleError
from policy_service.cases import CaseResult, run_cases
from policy_service.lint import Severity, lint


def pass_gate(contents: BundleContents) -> tuple[Bundle, list[CaseResult]]:
    """The bundle and its cases; raises ``BundleError`` with the first thing that is wrong, and how many more are."""
    bundle = Bundle.load(contents)
    errors = [finding for finding in lint(bundle) if finding.severity is Severity.ERROR]
    if errors:
        raise BundleError(errors[0].file, errors[0].problem + _more(len(errors)), policy=errors[0].policy)
    return bundle, pass_cases(bundle)


def pass_cases(bundle: Bundle) -> list[CaseResult]:
    """The bundle's cases; raises ``BundleError`` when there are none, or one fails."""
    results = run_cases(bundle)
    if not results:
        raise BundleError("cases/", "holds no case: a bundle that nothing shows the meaning of is not activated")
    failed = [result for result in results if not result.passed]
    if failed:
        first = failed[0]
        raise BundleError(first.file, f"case {first.case!r}: {first.problems[0]}{_more(len(failed))}")
    return results


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
