"""``policy check`` and ``policy test`` say what is wrong, and exit 0, 1 or 2."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policy_service.commands import policy
from tests.policy_service.till import SCHEMA

PERMIT = '@id("pay") permit (principal, action, resource == Tool::"till.pay") when { context.amount <= 100 };'
CASE = "- {name: pays, tool: till.pay, facts: {ok: true, count: 1}, expect: {verdict: allow}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small bundle in a folder."""
    (tmp_path / "cases").mkdir()
    (tmp_path / "schema.cedarschema").write_text(SCHEMA)
    (tmp_path / "till.cedar").write_text(PERMIT)
    (tmp_path / "cases" / "till.yaml").write_text(CASE)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run ``policy`` with these arguments."""
    return CliRunner().invoke(policy, list(arguments))


def test_check_counts_the_policies_of_a_sound_bundle(folder: Path) -> None:
    assert run("check", str(folder)).exit_code == 0
    report = json.loads(run("check", str(folder), "--json").stdout)
    assert (report["ok"], report["policies"], report["cases"]) == (True, ["pay"], 1)


def test_check_fails_on_stderr_naming_file_and_policy(folder: Path) -> None:
    (folder / "more.cedar").write_text(PERMIT)
    result = run("check", str(folder))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "policy pay" in result.stderr
    report = json.loads(run("check", str(folder), "--json").stdout)
    assert (report["ok"], "policy pay" in report["error"]) == (False, True)


def test_check_shows_warnings_and_fails_for_them_when_it_is_strict(folder: Path) -> None:
    result = run("check", str(folder))
    assert (result.exit_code, "warning: schema.cedarschema: no policy permits" in result.stderr) == (0, True)
    report = json.loads(run("check", str(folder), "--strict", "--json").stdout)
    assert (report["ok"], {finding["kind"] for finding in report["findings"]}) == (False, {"tool"})


def test_check_fails_for_a_permit_without_a_cap(folder: Path) -> None:
    (folder / "till.cedar").write_text(PERMIT.replace("context.amount <= 100", "true"))
    result = run("check", str(folder))
    assert (result.exit_code, "error: till.cedar: policy pay: permits any amount" in result.stderr) == (1, True)


@pytest.mark.parametrize("pack", ["outbreak", "retail"])
def test_the_packs_pass_the_strict_check(pack: str) -> None:
    result = run("check", pack, "--strict")
    assert (result.exit_code, result.stderr) == (0, "")


def test_test_passes_and_prints_a_table(folder: Path) -> None:
    result = run("test", str(folder), "--require-coverage")
    assert result.exit_code == 0
    assert "1 cases, 0 failed" in result.stdout


def test_test_compares_obligations_and_counts_the_cases_of_each_policy(folder: Path) -> None:
    (folder / "till.cedar").write_text('@obligation("notify:owner") ' + PERMIT)
    case = folder / "cases" / "till.yaml"
    case.write_text(CASE.replace("verdict: allow", "verdict: allow, obligations: ['notify:owner']"))
    report = json.loads(run("test", str(folder), "--json").stdout)
    assert (report["ok"], report["coverage"]) == (True, {"pay": 1})
    case.write_text(CASE.replace("verdict: allow", "verdict: allow, obligations: []"))
    report = json.loads(run("test", str(folder), "--json").stdout)
    assert report["results"][0]["problems"] == ["obligations notify:owner, expected none"]


def test_test_fails_when_a_case_does(folder: Path) -> None:
    (folder / "cases" / "till.yaml").write_text(CASE.replace("allow", "deny"))
    assert run("test", str(folder)).exit_code == 1
    report = json.loads(run("test", str(folder), "--json").stdout)
    assert report["results"][0]["problems"] == ["verdict allow (no reason), expected deny"]


def test_test_fails_for_a_bundle_without_cases_or_that_does_not_compile(folder: Path) -> None:
    (folder / "cases" / "till.yaml").write_text("")
    assert run("test", str(folder)).exit_code == 1
    (folder / "till.cedar").write_text("permit")
    result = run("test", str(folder))
    assert (result.exit_code, "till.cedar" in result.stderr) == (1, True)


def test_a_policy_without_a_case_fails_only_when_coverage_is_required(folder: Path) -> None:
    (folder / "more.cedar").write_text(PERMIT.replace("pay", "open"))
    assert run("test", str(folder)).exit_code == 0
    result = run("test", str(folder), "--require-coverage")
    assert (result.exit_code, "determined by: open" in result.stdout) == (1, True)


def test_what_is_neither_a_folder_nor_a_pack_is_wrong_use() -> None:
    assert run("check", "no-such-pack").exit_code == 2
