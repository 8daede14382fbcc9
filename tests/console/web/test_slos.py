"""The page of objectives: what is left of each error budget, and what cannot be told."""

from pathlib import Path

import pytest

from console.slo.budget import budget_of
from console.slo.objectives import read_objectives
from console.web.desk import templates
from mesh.ports import free_port
from tests.console.web.running_console import site_in


def page(**values: object) -> str:
    common = {"viewer": None, "title": "Objectives", "path": "/slos", "pages": (), "halts": (), "url": "http://p"}
    return templates().get_template("slos.html.jinja").render({**common, "problem": "", **values})


def test_a_budget_is_whole_half_gone_missed_or_unknown() -> None:
    objective = read_objectives()[0]
    shares = (0.0, objective.budget / 2, objective.budget * 0.9, objective.budget * 3, None)
    text = page(budgets=[budget_of(objective, share) for share in shares])
    assert objective.title in text
    for said in ("100.0 % of the budget left", "50.0 % of", "10.0 % of", "missed", "unknown", "nothing was counted"):
        assert said in text, said
    assert text.count("<meter") == 4 and 'value="0"' in text


@pytest.mark.timeout(60)
async def test_a_prometheus_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    env = {"WORKMESH_CONSOLE__PROMETHEUS_URL": f"http://127.0.0.1:{free_port()}"}
    async with site_in(tmp_path, env=env) as site, site.browser("vera") as vera:
        assert "cannot be asked" in await vera.page("/slos")
