"""A real Prometheus: the rules are sound, it finds and scrapes a running mesh, and every panel has data to show."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from console.slo.budget import budgets
from deploy.grafana.asking import DASHBOARDS, Asked, queries
from deploy.grafana.boards import BOARDS as DEPLOYED
from tests.ops.prometheus import ROOT, run
from tests.ops.watched import ROLES, Watched, watched

DEPLOY = ROOT / "deploy"
BOARDS = sorted(DASHBOARDS.glob("*.json"))
SVG = "{http://www.w3.org/2000/svg}"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    async with watched(tmp_path_factory.mktemp("w")) as found:
        yield found


async def test_promtool_finds_the_rules_sound_and_they_say_what_they_should() -> None:
    assert "SUCCESS" in run(["promtool", "check", "rules", str(DEPLOY / "prometheus" / "rules.yml")])
    run(["promtool", "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")])
    run(["promtool", "test", "rules", str(DEPLOY / "prometheus" / "tests.yml")])


async def test_every_process_is_found_by_the_registry_and_scraped(mesh: Watched) -> None:
    found = {target["labels"]["role"]: target for target in mesh.prometheus.targets()}
    assert sorted(found) == sorted(ROLES)
    assert {target["health"] for target in found.values()} == {"up"}, found
    # Those that were killed are where their successors are: a port of their own each time.
    listed = json.loads((mesh.folder / "site" / "run" / "prometheus.json").read_text("utf-8"))
    assert {each["targets"][0] for each in listed} == {
        target["discoveredLabels"]["__address__"] for target in found.values()
    }


def asked(mesh: Watched) -> Asked:
    """The mesh's Prometheus, about all that has happened."""
    return Asked(mesh.prometheus.url, mesh.started, time.time(), rate_s=15)


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
async def test_every_query_of_every_panel_answers_with_data(mesh: Watched, board: Path) -> None:
    with asked(mesh) as ask:
        empty = [(title, query) for title, query in queries(board) if not ask.has_data(query)]
    assert not empty


async def test_a_command_asks_them_and_draws_what_prometheus_has(mesh: Watched, tmp_path: Path) -> None:
    """As for the documentation: with ``PICTURES`` set, into that folder."""
    folder = Path(os.environ.get("PICTURES", tmp_path))
    minutes = str((time.time() - mesh.started) / 60)
    argv = [sys.executable, "-m", "deploy.grafana.asking", "--prometheus", mesh.prometheus.url, "--rate", "15"]
    said = await asyncio.to_thread(run, [*argv, "--minutes", minutes, "--draw", str(folder)])
    assert all(path.stem in said for path in BOARDS)
    for board in DEPLOYED:
        root = ElementTree.parse(folder / f"{board.uid}.svg").getroot()
        drawn = {each.text for each in root.iter(f"{SVG}text")}
        assert {panel.title for panel in board.panels} <= drawn and "nothing yet" not in drawn
        assert len(list(root.iter(f"{SVG}polyline"))) > 3
    argv = [*argv, "--prometheus", "http://127.0.0.1:1"]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True)
    assert done.returncode == 1 and "no Prometheus answers at http://127.0.0.1:1" in done.stderr


async def test_what_was_measured_is_what_happened(mesh: Watched) -> None:
    """Against other witnesses: the shop's own log, the journal, and who was killed."""
    ask = mesh.prometheus.value
    keys = [each.key for each in await mesh.applied()]
    assert ask('sum(workmesh_actions_applied_total{target="shop"})') == len(set(keys)) > 20
    assert ask("sum(workmesh_actions_repeated_total)") == len(keys) - len(set(keys)) == 0
    assert ask("sum(workmesh_actions_unknown_total)") == 0
    assert ask('sum(max_over_time(workmesh_recovery_seconds_count{stage=~"executor|planner"}[10m]))') > 0
    (recall,) = [query for title, query in queries(DASHBOARDS / "workmesh-memory.json") if title == "recall@10"]
    assert ask(recall) == 1  # three facts, asked for by their own names
    for gauge in (  # which each process has, at 0 where nobody sets it
        "workmesh_bus_store_bytes",
        "workmesh_bus_store_limit_bytes",
        "workmesh_disk_free_bytes",
        "workmesh_memory_facts",
        "workmesh_model_budget_left_micro_usd",
        "workmesh_quarantine_oldest_seconds",
        "workmesh_approvals_oldest_seconds",
    ):
        assert ask(f"max(max_over_time({gauge}[10m]))") > 0, gauge
    assert ask("max(workmesh_journal_last_sequence)") >= ask("max(workmesh_audit_signed_size)") > 0
    assert ask('sum(workmesh_approval_words_total{word="reject"})') >= 1
    ended = ask('sum(max_over_time(workmesh_task_seconds_count{stage="outcome"}[10m]))')
    page = await mesh.bus.last_of_each("JOURNAL", ["task.outcome.>"])
    assert ended == len(page)


async def test_error_budgets_are_told(mesh: Watched) -> None:
    found = {each.name: each for each in await budgets(mesh.prometheus.url)}
    assert {name for name, each in found.items() if each.measured is None} == {"planning-batch"}
    assert (found["duplication"].measured, found["duplication"].left) == (100, 100)
    argv = [sys.executable, "-m", "console.main", "slo", "status", "--prometheus", mesh.prometheus.url, "--json"]
    assert [each["name"] for each in json.loads(await asyncio.to_thread(run, argv))] == list(found)


async def test_an_action_that_was_done_twice_or_is_not_ours_is_noticed(mesh: Watched) -> None:
    """Written into the shop's own log, behind everybody's back."""
    copy = "SELECT ?, digest, kind, order_id, amount, at, gift_cards, moves, order_before FROM changes WHERE seq = 1"
    columns = "key, digest, kind, order_id, amount, at, gift_cards, moves, order_before"
    key = (await mesh.applied())[0].key
    with closing(sqlite3.connect(mesh.folder / "systems" / "shop.db", timeout=10)) as database:
        for each in (key, "wm-nobody-change"):
            database.execute(f"INSERT INTO changes ({columns}) {copy}", (each,))
        database.commit()
    await mesh.until('count(ALERTS{alertname=~"ActionRepeated|ActionUnknown", alertstate="firing"})', 2)
    assert mesh.prometheus.value("sum(workmesh_actions_repeated_total)") == 1
    assert mesh.prometheus.value("sum(workmesh_actions_unknown_total)") == 1
    (budget,) = [each for each in await budgets(mesh.prometheus.url) if each.name == "duplication"]
    assert budget.measured is not None and budget.measured < 100
