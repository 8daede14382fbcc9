"""Totals, tables and the picture of the crash matrix, made from results alone."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.chaos.cell import AFTER_FETCH, BEFORE_COMMIT, RECOVERY, Result
from benchmarks.chaos.report import BEGIN, END, PAGE, PICTURE, grids, markdown, picture, summary, write
from mesh.errors import WorkmeshError

GROUP = "process x boundary"


def result(row: str, column: str, recovery_s: float | None, fault: str = "kill", **more: object) -> Result:
    return Result(group=GROUP, row=row, column=column, fault=fault, tasks=12, recovery_s=recovery_s, **more)  # type: ignore[arg-type]


RESULTS = [
    result("planner", RECOVERY, 2.0),
    result("planner", AFTER_FETCH, 1.0),
    result("nats", AFTER_FETCH, 7.25, "stop", lost=1, problems=("lost: task t1 has no outcome",)),
    result("nats", BEFORE_COMMIT, None, problems=("not tested: the point",)),
]


def test_the_totals_are_those_of_the_cells() -> None:
    total = summary(RESULTS)
    assert (total.cells, total.lost, total.duplicates, total.failed_cells) == (4, 1, 0, 2)
    assert total.recovery_p95_s == 7.25
    assert summary([result("a", "b", float(n)) for n in range(1, 101)]).recovery_p95_s == 95.0
    assert summary([]).recovery_p95_s == 0.0


def test_the_table_has_boundaries_in_the_order_of_a_task_and_says_what_failed() -> None:
    (grid,) = grids(RESULTS)
    assert grid.columns == (AFTER_FETCH, BEFORE_COMMIT, RECOVERY)
    text = markdown(RESULTS, 7)
    assert "| planner | kill | 12 · 0 · 0 · 1.00 s | - | 12 · 0 · 0 · 2.00 s |" in text
    assert "| nats | stop | **failed** 12 · 1 · 0 · 7.25 s | - | - |" in text
    assert "- nats / after fetch / stop: lost: task t1 has no outcome" in text
    assert "4 cells with seed 7" in text


def test_the_picture_is_well_formed_and_shows_every_cell() -> None:
    drawn = ElementTree.fromstring(picture(grids(RESULTS)))
    words = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("failed") == 2
    assert {"planner", "nats", "1.0", "2.0"} <= set(words)


def test_a_page_is_written_between_its_marks_and_one_without_is_refused(tmp_path: Path) -> None:
    page = tmp_path / PAGE
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write(RESULTS, 7, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "| planner |" in text
    assert (tmp_path / PICTURE).exists()
    write(RESULTS, 7, tmp_path)
    assert page.read_text(encoding="utf-8") == text
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(WorkmeshError, match="no place for the table"):
        write(RESULTS, 7, tmp_path)
