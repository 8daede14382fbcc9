"""The command line of policy: ``check`` and ``test`` here, the others added. Exit 0 done, 1 failed, 2 wrong use."""

from collections.abc import Mapping

import click
import msgspec
from rich.table import Table
from rich.text import Text

from mesh.cli import json_option, print_json, stdout
from mesh.records import Struct
from policy_service.bundle import Bundle, BundleContents, BundleError
from policy_service.cases import CaseResult, coverage, read_cases, run_cases, uncovered
from policy_service.lint import Finding, Severity, lint
from policy_service.releases import activate, fetch, history, list_, publish, rollback, shadow
from policy_service.reviews import diff, explain
from policy_service.sending import send
from policy_service.sources import locate, tools_of


class CheckReport(Struct, frozen=True, kw_only=True):
    """What ``policy check --json`` prints."""

    ok: bool
    domain: str
    digest: str = ""
    policies: tuple[str, ...] = ()
    cases: int = 0
    findings: tuple[Finding, ...] = ()
    error: str = ""


class TestReport(Struct, frozen=True, kw_only=True):
    """What ``policy test --json`` prints. ``coverage`` is how many cases each policy determined."""

    ok: bool
    domain: str
    digest: str = ""
    results: tuple[CaseResult, ...] = ()
    coverage: Mapping[str, int] = msgspec.field(default_factory=dict)
    uncovered: tuple[str, ...] = ()
    error: str = ""


@click.group()
def policy() -> None:
    """Check, test, publish and activate policy bundles; explain decisions and compare bundles."""


for _command in (activate, diff, explain, fetch, history, list_, publish, rollback, send, shadow):
    policy.add_command(_command)


@policy.command()
@click.argument("source", metavar="DIR")
@click.option("--strict", is_flag=True, help="Fail for a warning too.")
@json_option
def check(source: str, strict: bool, as_json: bool) -> None:
    """Compile the bundle in DIR (a folder, or the name of a pack), and say what is questionable about it.

    An error is a permit without a cap on money, or a role that is asked for in vain or never. A warning is a tool that
    nothing permits, or a cap that is no number.
    """
    folder, domain = locate(source)
    try:
        bundle = Bundle.load(BundleContents.read(folder, domain))
        findings = tuple(lint(bundle, tools_of(domain)))
        report = CheckReport(
            ok=not any(strict or each.severity is Severity.ERROR for each in findings),
            findings=findings,
            domain=domain,
            digest=bundle.digest,
            policies=tuple(sorted(bundle.policies)),
            cases=len(read_cases(bundle.contents)),
        )
    except BundleError as error:
        report = CheckReport(ok=False, domain=domain, error=str(error))
    if as_json:
        print_json(report)
    elif report.error:
        click.echo(report.error, err=True)
    else:
        for finding in report.findings:
            click.echo(finding.line, err=True)
        click.echo(f"{domain}: {len(report.policies)} policies, {report.cases} cases, {report.digest}")
    _exit(report.ok)


@policy.command()
@click.argument("source", metavar="DIR")
@json_option
@click.option("--require-coverage", is_flag=True, help="Fail when a policy determines no case.")
def test(source: str, as_json: bool, require_coverage: bool) -> None:
    """Run the cases of the bundle in DIR (a folder, or the name of a pack)."""
    folder, domain = locate(source)
    try:
        bundle = Bundle.load(BundleContents.read(folder, domain))
        results = run_cases(bundle)
        missing = uncovered(bundle, results)
        passed = bool(results) and all(result.passed for result in results)
        ok = passed and not (require_coverage and missing)
        report = TestReport(
            ok=ok,
            domain=domain,
            digest=bundle.digest,
            results=tuple(results),
            coverage=coverage(bundle, results),
            uncovered=missing,
        )
    except BundleError as error:
        report = TestReport(ok=False, domain=domain, error=str(error))
    if as_json:
        print_json(report)
    elif report.error:
        click.echo(report.error, err=True)
    else:
        _print_table(report)
    _exit(report.ok)


def _print_table(report: TestReport) -> None:
    console = stdout()
    table = Table("", "file", "case", "verdict", "policies", "problem", title=f"policies of {report.domain}")
    for result in report.results:
        mark = Text("ok", "green") if result.passed else Text("no", "red")
        verdict = result.verdict
        policies, problems = ", ".join(verdict.policies), "; ".join(result.problems)
        columns = (result.file.removeprefix("cases/"), result.case, verdict.verdict, policies, problems)
        table.add_row(mark, *columns)
    console.print(table)
    failed = sum(not result.passed for result in report.results)
    covered = len(report.coverage) - len(report.uncovered)
    console.print(f"{covered} of {len(report.coverage)} policies determine a case")
    console.print(f"{len(report.results)} cases, {failed} failed, {len(report.uncovered)} policies without a case")
    if not report.results:
        console.print("no cases: add cases/*.yaml")
    if report.uncovered:
        console.print(f"no case is determined by: {', '.join(report.uncovered)}")


def _exit(ok: bool) -> None:
    if not ok:
        raise SystemExit(1)
