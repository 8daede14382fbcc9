"""The crash matrix on real sites: a kill, a stop, a fault that does not come, and a tool that says what is not so."""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks.chaos.cell import BEFORE_RECORD, BOUNDARIES, Bench, Cell, Fault, Result
from benchmarks.chaos.drills import Drill
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.matrix import MATRIX, cells
from benchmarks.chaos.runner import chosen, run_cells
from benchmarks.chaos.site import SiteSpec
from benchmarks.chaos.trial import Load

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ROWS = ("perception", "planner", "policy", "learner", "executor", "memory", "shop", "nats")
FEW = Load(events=(4, 4))


async def run(folder: Path, *wanted: Cell) -> list[Result]:
    return await run_cells(wanted, 1, folder, lambda result: None)


def cell(name: str, action: Callable[[Bench], Awaitable[Verdict]]) -> Cell:
    return Cell("test", name, "", "", action)


@pytest.mark.timeout(120)
async def test_a_killed_and_a_stopped_executor_lose_and_repeat_nothing(tmp_path: Path) -> None:
    names = (f"executor / {BEFORE_RECORD} / kill", f"executor / {BEFORE_RECORD} / stop")
    results = await run(tmp_path, *(each for each in cells() if each.name in names))
    assert [result.name for result in results] == list(names)
    for result in results:
        assert result.problems == ()
        assert (result.lost, result.duplicates) == (0, 0)
        assert result.tasks >= 12
    killed, stopped = results
    assert killed.recovery_s is not None and killed.recovery_s > 1  # it was down, and its successor had to start
    assert stopped.recovery_s is not None and stopped.recovery_s > 1


@pytest.mark.timeout(120)
async def test_a_fault_that_does_not_come_fails_its_cell_and_the_next_has_a_fresh_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.chaos.trial.HIT_S", 2.0)
    drill = Drill(SiteSpec(), Fault.KILL, FEW)
    never = cell("never", partial(drill.at_point, role="planner", point="planner.no_such_point"))
    seen: list[str] = []

    async def look(bench: Bench) -> Verdict:
        seen.append((await bench.sites.get(SiteSpec())).folder.name)
        return Verdict(0, 0, 0, None, ())

    results = await run(tmp_path, cell("first", look), never, cell("next", look))
    assert [result.passed for result in results] == [True, False, True]
    assert "not tested" in results[1].problems[0]
    assert seen == ["s1", "s2"]


@pytest.mark.timeout(120)
async def test_a_tool_that_wrongly_says_it_is_idempotent_is_seen_to_repeat_its_effect(tmp_path: Path) -> None:
    lying = SiteSpec(keys="ignore", recovery="idempotent")
    drill = Drill(lying, Fault.KILL, FEW)
    (result,) = await run(tmp_path, cell("liar", partial(drill.at_point, role="executor", point="executor.after_call")))
    assert result.duplicates >= 1
    assert not result.passed
    assert any("duplicate: effect wm-" in problem for problem in result.problems)


def test_every_process_has_a_row_and_every_boundary_a_column() -> None:
    matrix = [each for each in cells() if each.group == MATRIX]
    assert {each.row for each in matrix} == {*ROWS, "executor, keys ignored"}
    assert {each.column for each in matrix} == set(BOUNDARIES)
    places = {(each.row, each.column) for each in matrix}
    assert {(each.row, each.column, each.fault) for each in matrix} == {
        (*at, fault) for at in places for fault in Fault
    }
    for row in ("executor", "shop", "nats"):
        assert {column for where, column in places if where == row} == set(BOUNDARIES)
    names = [each.name for each in cells()]
    assert len(names) == len(set(names))


def test_a_seed_draws_the_same_again_and_a_cell_is_chosen_by_its_name() -> None:
    draws = [random.Random("7/planner / before commit / kill").random() for _ in range(2)]
    assert draws[0] == draws[1]
    assert {each.row for each in chosen(cells(), ["nats", "kill"])} == {"nats"}
    assert chosen(cells(), ["no such cell"]) == []
