"""The demonstration under random kills: every one to two seconds a process, drawn from the seed."""

from typing import Literal

from benchmarks.chaos.cell import Bench
from benchmarks.chaos.evidence import Verdict
from console.demo.driver import DemoPlan, run_demo
from console.demo.report import report
from console.publish import read_lines
from console.up import Running
from mesh.demo import load_demo


async def storm(bench: Bench, keys: Literal["honour", "ignore"]) -> Verdict:
    """Run the sample under kills, with approvals; recovery is the longest after any of the kills."""
    await bench.sites.close()
    demo = load_demo("retail")
    lines = read_lines((demo.sample / "events.jsonl").read_bytes())
    faults = {"keys": "ignore"} if keys == "ignore" else {}
    plan = DemoPlan("retail", demo, demo.sample, lines, approve=True, kill_seed=bench.seed, faults=faults)
    run = await run_demo(plan, bench.folder, _nothing)
    result = report(run, demo.sample / "expected.jsonl")
    numbers = result.summary
    return Verdict(
        tasks=int(numbers["events"]),
        lost=int(numbers["lost"]),
        duplicates=int(numbers["duplicate_effects"]),
        recovery_s=float(numbers["recovery_max_s"]),
        problems=tuple(result.problems) if numbers["kills"] else ("nothing was killed", *result.problems),
    )


def _nothing(settled: int, total: int, site: Running) -> None:
    return
