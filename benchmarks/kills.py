"""The demonstration under kills, seed after seed, with keys honoured by the shop and with keys ignored."""

from dataclasses import dataclass
from pathlib import Path

from console.demo.driver import DemoPlan, run_demo
from console.demo.report import report
from console.publish import read_lines
from console.up import Running
from mesh.demo import load_demo

MODES = {"honour": {}, "ignore": {"keys": "ignore"}}


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: its seed, how the shop treats keys, its numbers, and what was wrong with it."""

    seed: int
    keys: str
    summary: dict[str, int | float]
    problems: list[str]


async def run_cell(folder: Path, seed: int, keys: str, data: Path | None = None) -> Cell:
    """Run the sample (or the data in a folder with ``events.jsonl``) under the kills of a seed."""
    demo = load_demo("retail")
    source = data or demo.sample
    lines = read_lines((source / "events.jsonl").read_bytes())
    plan = DemoPlan("retail", demo, source, lines, approve=True, kill_seed=seed, faults=dict(MODES[keys]))
    run = await run_demo(plan, folder, _nothing)
    result = report(run, source / "expected.jsonl")
    return Cell(seed, keys, result.summary, result.problems)


def _nothing(settled: int, total: int, site: Running) -> None:
    return
