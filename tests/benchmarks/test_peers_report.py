"""The comparison as a page's section and as a document, and what may be imported where."""

import ast
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.peers import report
from benchmarks.peers.measure import Row
from benchmarks.peers.tally import Kills, Speed

PEERS = Path(report.__file__).parent
IGNORED = Kills(kills=5, victims=90, duplicated=88, repeats=100, without_effect=1, without_end=2)
HONOURED = Kills(kills=5, victims=90, duplicated=0, repeats=0, without_effect=0, without_end=0, waiting=3)
MEASURED = Row(
    "Engine|1",
    {"engine": "1.2"},
    "a server",
    Speed(100.5, 20.1, 30.2, 9.9),
    [Speed(100.5, 20.1, 30.2, 9.9)],
    {"fsync": "on", "synchronous": "2"},
    4.5,
    None,
    IGNORED,
    HONOURED,
)
SHOWN = report.result([MEASURED, Row("Other", skipped="no such wheel"), Row("Third", failed="it died")], 400, 0.256)


def test_a_row_says_what_was_repeated_what_was_lost_and_what_waits() -> None:
    line = next(line for line in report.markdown(SHOWN).splitlines() if line.startswith("| Engine/1 | 100.5"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "Engine/1",
        "100.5",
        "20.1",
        "30.2",
        "9.9",
        "4.5 (-)",
        "88 twice, 3 lost; 90 victims",
        "0 twice, 0 lost, 3 wait for a person; 90 victims",
    ]


def test_sqlites_numbers_are_named() -> None:
    assert "| Engine/1 | engine 1.2 | a server | fsync on, synchronous FULL |" in report.markdown(SHOWN)


def test_what_was_skipped_or_failed_says_why_and_has_no_figures() -> None:
    text = report.markdown(SHOWN)
    assert "| Other | skipped: no such wheel |" in text
    assert "| Third | failed: it died |" in text


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    tables = [line.count("|") for line in report.markdown(SHOWN).splitlines() if line.startswith("|")]
    assert tables == [9] * 5 + [5] * 5


def test_the_section_is_replaced_between_its_markers_and_nothing_else_is(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Performance\n\nBefore.\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n")
    report.write_section(page, SHOWN)
    once = page.read_text()
    report.write_section(page, SHOWN)
    assert page.read_text() == once
    assert once.startswith("# Performance\n\nBefore.\n\n") and once.endswith(f"{report.END}\n\nAfter.\n")
    assert "\nold\n" not in once and "Engine/1" in once


def test_a_page_without_the_section_gets_it_at_its_end(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    report.write_section(page, SHOWN)
    assert page.read_text().startswith("# Performance\n\n" + report.BEGIN)
    assert page.read_text().endswith(f"{report.END}\n")


@pytest.mark.parametrize("text", [f"{report.BEGIN}\nmine\n", f"{report.END}\nmine\n{report.BEGIN}\n"])
def test_a_page_with_half_a_section_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    page = tmp_path / "performance.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="or neither"):
        report.write_section(page, SHOWN)
    assert page.read_text() == text


def test_a_busy_machine_is_named_as_such() -> None:
    quiet = msgspec.structs.replace(SHOWN, others_cores=0.1)
    assert "than on a quiet machine" in report.markdown(SHOWN)
    assert "than on a quiet machine" not in report.markdown(quiet)


def test_the_document_holds_all_figures_and_can_be_read_back() -> None:
    assert msgspec.convert(report.document(SHOWN), report.Result) == SHOWN
    assert SHOWN.others_cores == 0.26


@pytest.mark.parametrize("path", sorted(PEERS.rglob("*.py")), ids=lambda path: str(path.relative_to(PEERS)))
def test_what_runs_in_a_peers_environment_imports_nothing_of_ours_but_its_driver(path: Path) -> None:
    names = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    foreign = {"aiohttp", "dbos", "hypercorn", "langgraph", "restate", "sqlalchemy"}
    tops = {name.split(".")[0] for name in names}
    if path.name == "client.py":
        assert tops <= sys.stdlib_module_names
    elif path.name in ("worker.py", "submit.py"):
        ours = {name for name in names if name.split(".")[0] in ("benchmarks", "mesh", "console")}
        assert ours == {"benchmarks.peers.client"}
    else:
        assert not tops & foreign
