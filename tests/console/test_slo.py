"""Objectives: what a file of them may say, the rules made of it, and what is left of a budget."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from console.slo.budget import budget_of, budgets
from console.slo.commands import slo
from console.slo.objectives import Objective, Sli, fault, read_objectives
from console.slo.rules import BURNS, Links, rules
from mesh.errors import SettingsError, WorkmeshError

RATIO = Sli(bad='workmesh_outcomes_total{status="failed"}', total="workmesh_outcomes_total")
GIVEN = Objective(name="success", title="Tasks do not fail", alert="TasksFail", objective=99.5, sli=RATIO)


def test_the_objectives_that_ship_are_in_order() -> None:
    found = read_objectives()
    assert {each.name for each in found} >= {"recovery", "duplication", "retrieval", "override"}
    assert all(fault(each) == "" for each in found)


@pytest.mark.parametrize(
    ("sli", "says"),
    [
        ({"good": "workmesh_outcomes_total"}, "expected good and total"),
        ({"good": "up", "bad": "up", "total": "up"}, "expected good and total"),
        ({"good": "workmesh_outcome_total", "total": "up"}, "there is no metric workmesh_outcome"),
        ({"good": "sum(up)", "total": "up"}, "no selector"),
        ({"histogram": "workmesh_outcomes", "seconds": 1}, "is no histogram"),
        ({"histogram": "workmesh_commit_seconds", "seconds": 0.3}, "no bound of workmesh_commit_seconds"),
        ({"histogram": "workmesh_commit_seconds", "second": 1}, "unknown field"),
    ],
)
def test_an_objective_that_would_measure_nothing_is_refused(tmp_path: Path, sli: dict[str, Any], says: str) -> None:
    one = {"name": "it", "title": "It", "alert": "ItFails", "objective": 99, "sli": sli}
    (tmp_path / "o.yaml").write_text(json.dumps({"objectives": [one]}), encoding="utf-8")
    with pytest.raises(SettingsError, match=says):
        read_objectives(tmp_path / "o.yaml")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"objective": 100}, "< 100"),
        ({"window": "a month"}, "window"),
        ({"alert": "it fails"}, "alert"),
        ({"name": "A"}, "name"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    sli = {"good": "up", "total": "up"}
    one = {"name": "it", "title": "It", "alert": "ItFails", "objective": 99, "sli": sli} | changed
    (tmp_path / "o.yaml").write_text(json.dumps({"objectives": [one]}), encoding="utf-8")
    with pytest.raises(SettingsError, match=says):
        read_objectives(tmp_path / "o.yaml")


def test_two_objectives_do_not_share_a_name(tmp_path: Path) -> None:
    one = {"name": "it", "title": "It", "alert": "ItFails", "objective": 99, "sli": {"good": "up", "total": "up"}}
    (tmp_path / "o.yaml").write_text(json.dumps({"objectives": [one, one]}), encoding="utf-8")
    with pytest.raises(SettingsError, match="'it' is there twice"):
        read_objectives(tmp_path / "o.yaml")


def test_a_burn_that_no_error_rate_can_reach_has_no_alert() -> None:
    loose = [
        rule for group in rules([_with(80.0)])["groups"] for rule in group["rules"] if rule.get("alert") == "TasksFail"
    ]
    assert [rule["labels"]["severity"] for rule in loose] == ["ticket"]
    assert "14.4" not in str(loose)
    tight = [rule for group in rules([GIVEN])["groups"] for rule in group["rules"] if rule.get("alert") == "TasksFail"]
    assert [rule["labels"]["severity"] for rule in tight] == ["page", "ticket"]
    assert all(f"{burn.factor:g} * 0.005" in str(tight) for burn in BURNS)


def test_every_window_that_an_alert_looks_at_is_recorded() -> None:
    for group in (made := rules([GIVEN], Links("https://wiki/", "https://grafana")))["groups"]:
        assert group["rules"]
    recorded = {rule["record"] for group in made["groups"] for rule in group["rules"] if "record" in rule}
    wanted = {f"workmesh:slo_errors:ratio_rate{window}" for burn in BURNS for window in (burn.long, burn.short)}
    assert wanted <= recorded
    alert = next(rule for group in made["groups"] for rule in group["rules"] if rule.get("alert") == "TasksFail")
    assert alert["annotations"]["runbook_url"] == "https://wiki/TasksFail.md"
    assert alert["annotations"]["dashboard_url"] == "https://grafana/d/workmesh-overview"


def test_a_budget_counts_down_and_below_nothing() -> None:
    assert budget_of(GIVEN, 0.0).left == 100
    assert (budget_of(GIVEN, 0.0025).left, budget_of(GIVEN, 0.0025).measured) == (50, 99.75)
    assert budget_of(GIVEN, 0.01).left == -100
    assert (budget_of(GIVEN, None).left, budget_of(GIVEN, None).measured) == (None, None)


async def test_what_is_no_prometheus_is_said_to_be_none() -> None:
    with answering(b"<html>hello</html>") as url, pytest.raises(WorkmeshError, match="answers as no Prometheus does"):
        await budgets(url, [GIVEN])
    with pytest.raises(WorkmeshError, match="cannot be asked"):
        await budgets("http://127.0.0.1:1", [GIVEN])


async def test_a_prometheus_without_numbers_leaves_them_unknown() -> None:
    nothing = {"status": "success", "data": {"resultType": "vector", "result": []}}
    with answering(json.dumps(nothing).encode()) as url:
        assert [each.measured for each in await budgets(url, [GIVEN])] == [None]


def test_the_command_writes_what_the_library_makes(tmp_path: Path) -> None:
    out = tmp_path / "rules.yml"
    run = CliRunner().invoke(slo, ["rules", "--out", str(out)])
    assert run.exit_code == 0 and run.stdout == ""
    assert out.read_text("utf-8") == CliRunner().invoke(slo, ["rules"]).stdout
    shown = json.loads(CliRunner().invoke(slo, ["show", "--json"]).stdout)
    assert [each["name"] for each in shown] == [each.name for each in read_objectives()]


def _with(objective: float) -> Objective:
    return Objective(name="success", title="Tasks do not fail", alert="TasksFail", objective=objective, sli=RATIO)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A server that answers everything with this."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
