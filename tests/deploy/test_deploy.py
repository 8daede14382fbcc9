"""What is committed in deploy/ is what the code makes, and every alert has a page that can be followed."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from console.main import cli
from console.slo.objectives import declared, read_objectives
from console.slo.rules import render, rules
from deploy.grafana.boards import BOARDS
from deploy.grafana.writing import files

ROOT = Path(__file__).parents[2]
DEPLOY, RUNBOOKS = ROOT / "deploy", ROOT / "docs" / "operations"
BOARD_FILES = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

_METRIC = re.compile(r"\bworkmesh_[a-z0-9_]+")
_RECORDED = re.compile(r"\bworkmesh:[a-z0-9_:]+")
_ENDS = re.compile(r"_(total|bucket|count|sum)$")


def groups() -> list[dict[str, Any]]:
    """The groups of the rules that are committed."""
    found: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
    return found


def alerts() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def queries(board: Path) -> list[str]:
    """Every query of a dashboard's file."""
    made = json.loads(board.read_text("utf-8"))
    return [target["expr"] for panel in made["panels"] for target in panel.get("targets", ())]


def test_the_rules_are_those_of_the_objectives() -> None:
    committed = (DEPLOY / "prometheus" / "rules.yml").read_text("utf-8")
    assert committed == render(rules(read_objectives())), (
        "make it anew: workmesh slo rules --out deploy/prometheus/rules.yml"
    )


def test_the_dashboards_are_those_of_the_code() -> None:
    committed = {path.name: path.read_text("utf-8") for path in BOARD_FILES}
    assert committed == files(), "make them anew: python -m deploy.grafana"


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"}
    assert pages == {alert["alert"] for alert in alerts()}
    index = (RUNBOOKS / "index.md").read_text("utf-8")
    for alert in alerts():
        assert (ROOT / alert["annotations"]["runbook_url"]).is_file()
        assert f"({alert['alert']}.md)" in index


def test_every_alert_leads_to_a_dashboard_that_is_there() -> None:
    uids = {f"/d/{board.uid}" for board in BOARDS}
    assert {alert["annotations"]["dashboard_url"] for alert in alerts()} <= uids


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    for line in [*fenced, *re.findall(r"`(workmesh [^`]+)`", text)]:
        if line.startswith("workmesh "):
            follow(shlex.split(line)[1:])


def follow(words: list[str]) -> None:
    """Find the command that these words name, and its options."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {name for param in command.params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= known, (command.name, words)


@pytest.mark.parametrize("board", BOARD_FILES, ids=lambda path: path.stem)
def test_dashboards_ask_only_for_what_is_measured(board: Path) -> None:
    recorded = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
    for query in queries(board):
        for name in _METRIC.findall(query):
            assert name in declared() or _ENDS.sub("", name) in declared(), query
        assert set(_RECORDED.findall(query)) <= recorded, query


def test_rules_ask_only_for_what_is_measured() -> None:
    for group in groups():
        for rule in group["rules"]:
            for name in _METRIC.findall(rule["expr"]):
                assert name in declared() or _ENDS.sub("", name) in declared(), rule["expr"]


def test_every_metric_that_is_declared_is_shown_or_alerts() -> None:
    shown = " ".join(query for board in BOARD_FILES for query in queries(board))
    shown += " ".join(rule["expr"] for group in groups() for rule in group["rules"])
    names = {_ENDS.sub("", name) for name in _METRIC.findall(shown)}
    assert set(declared()) - names == UNSHOWN


UNSHOWN: set[str] = set()
