"""What a demonstration shows in the end: the numbers, whether they are right, and a table for people."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.demo.driver import Run
from console.demo.killer import recovery_times
from console.demo.ledger import OUTCOMES, LineOutcome, collect, counts
from mesh.demo import Measured
from mesh.inference import Mode
from mesh.prices import load_prices
from mesh.records import Outcome, OutcomeStatus
from mesh.scripted.calls import Call
from mesh.spending import cost, dollars

_MEASURE = "measure_"
# What a pack expects in its own words: a refusal may be policy's, and a person who is asked has not answered yet.
_ALSO = {"refused": "denied", "person": "waiting"}
_STYLES = {
    "completed": "green",
    "failed": "bold red",
    "waiting": "yellow",
    "rejected": "magenta",
    "conflict": "magenta",
}


class _Expected(msgspec.Struct):
    id: str
    outcome: str
    amount: float = 0.0


@dataclass(slots=True)
class Report:
    """The verdict on a run. ``problems`` is empty when nothing was lost, repeated or otherwise than expected."""

    outcomes: list[LineOutcome]
    summary: dict[str, int | float]
    problems: list[str] = field(default_factory=list)


def report(run: Run, expected: Path | None) -> Report:
    """Count and verify a run, against ``expected.jsonl`` where there is one."""
    outcomes, lost = collect(run.ledger, run.lines)
    keys = Counter(change.key for change in run.applied)
    repeated = {key: count for key, count in keys.items() if count > 1}
    ended = list(run.ledger.outcomes.values())
    times = sorted(_end_ms(outcome) for outcome in ended) or [0.0]
    summary: dict[str, int | float] = {
        "events": len(run.plan.lines),
        **counts(outcomes),
        "effects": len(run.applied),
        "duplicate_effects": sum(count - 1 for count in repeated.values()),
        "lost": len(lost) + len(run.plan.lines) - len(run.lines),
        "tasks_per_s": round(len(ended) / run.duration_s, 1),
        "p50_ms": round(statistics.median(times), 1),
        "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))], 1),
        "duration_s": round(run.duration_s, 2),
    }
    if run.plan.conversations:
        summary["model_calls"] = len(run.ledger.usage)
        summary["model_micro_usd"] = cost(tuple(run.ledger.usage))
        summary["uncertain_micro_usd"] = cost(tuple(use for use in run.ledger.usage if not use.certain))
        summary["billed_micro_usd"] = billed(run.billed)
    if isinstance(run.plan.demo, Measured):
        found = run.plan.demo.measures(run.ledger.ended())
        summary |= {f"{_MEASURE}{name}": value for name, value in found.items()}
    if run.killer is not None:
        recoveries = recovery_times(run.killer.kills, _spans(run)) or [0.0]
        summary["kills"] = len(run.killer.kills)
        summary["recovery_p50_s"] = round(statistics.median(recoveries), 2)
        summary["recovery_max_s"] = round(max(recoveries), 2)
    problems = [f"lost: {line.id or f'line {line.line + 1}'} (sequence {line.seq})" for line in lost]
    problems += [f"repeated: effect {key} took place {count} times" for key, count in repeated.items()]
    problems += _unaccounted(run, set(keys))
    problems += _misbilled(run)
    problems += [f"failed: {line.id}: {line.reason}" for line in outcomes if line.outcome == "failed"]
    if expected is not None:
        problems += _unexpected(run, outcomes, expected)
    return Report(outcomes, summary, problems)


def show(result: Report, run: Run, console: Console) -> None:
    """The report for people."""
    by_outcome: dict[str, list[LineOutcome]] = {name: [] for name in (*OUTCOMES, "lost")}
    for line in result.outcomes:
        by_outcome[line.outcome].append(line)
    money = ["money (USD)"] if any(line.amount for line in result.outcomes) else []
    table = Table("outcome", "events", *money, "most frequent reason", title="What came of the events")
    for name, lines in by_outcome.items():
        if lines:
            reasons = Counter(line.reason for line in lines if line.reason).most_common(1)
            reason = f"{reasons[0][0]} ({reasons[0][1]})" if reasons else ""
            amount = f"{sum(line.amount for line in lines):,.2f}" if any(line.amount for line in lines) else ""
            amounts = [amount] if money else []
            table.add_row(Text(name, _STYLES.get(name, "white")), str(len(lines)), *amounts, reason)
    console.print(table)
    stages = Table("stage", "median ms", "p99 ms", title="From acceptance of the event to each record")
    for stage, values in _stage_times(list(run.ledger.outcomes.values())).items():
        stages.add_row(stage, f"{statistics.median(values):.1f}", f"{values[int(len(values) * 0.99)]:.1f}")
    console.print(stages)
    if run.plan.kill_seed is None:
        console.print("All events were published at once: the times hold the wait behind the others.")
    numbers = result.summary
    console.print(
        f"{numbers['effects']} effects in the target's own log, {numbers['duplicate_effects']} of them duplicates; "
        f"{numbers['lost']} events lost; {numbers['waiting']} wait for approval; "
        f"{numbers['tasks_per_s']} tasks/s, p50 {numbers['p50_ms']} ms, p99 {numbers['p99_ms']} ms"
    )
    if "model_calls" in numbers:
        console.print(
            f"{numbers['model_calls']} calls of models cost {dollars(int(numbers['model_micro_usd']))} at most, "
            f"{dollars(int(numbers['uncertain_micro_usd']))} of it for calls whose fate is unknown; "
            f"the provider billed {dollars(int(numbers['billed_micro_usd']))}"
        )
    if "kills" in numbers:
        console.print(
            f"{numbers['kills']} processes killed; tasks under way ended after {numbers['recovery_p50_s']} s "
            f"(median), {numbers['recovery_max_s']} s (most)"
        )
    if found := {name: value for name, value in numbers.items() if name.startswith(_MEASURE)}:
        measures = Table("measure", "value", title=f"How {run.plan.pack} works, from the journal")
        for name, value in found.items():
            measures.add_row(name.removeprefix(_MEASURE).replace("_", " "), f"{value:g}")
        console.print(measures)
    for problem in result.problems[:20]:
        console.print(Text.assemble(("problem: ", "bold red"), problem))
    if result.problems:
        console.print(Text(f"{len(result.problems)} problems", "bold red"))
    else:
        console.print(Text.assemble(("verified", "bold green"), ": nothing lost, nothing repeated, all as expected"))


def _misbilled(run: Run) -> list[str]:
    """The journal has what was billed, to the micro-dollar; a call whose fate is unknown it has at the most."""
    known = cost(tuple(use for use in run.ledger.usage if use.certain))
    most, asked = cost(tuple(run.ledger.usage)), billed(run.billed)
    if known <= asked <= most:
        return []
    return [f"models: {dollars(asked)} were billed, the journal has {dollars(known)} to {dollars(most)}"]


def billed(calls: Iterable[Call]) -> int:
    """What a provider asks for these calls by the table of prices, in micro-dollars."""
    prices = load_prices()
    return sum(
        prices.of(call.model).cost(
            Mode.BATCH if call.service == "batch" else Mode.INTERACTIVE,
            tokens_in=call.tokens_in,
            tokens_out=call.tokens_out,
            tokens_cached=call.tokens_cached,
            tokens_written=call.tokens_written,
        )
        for call in calls
    )


def _unaccounted(run: Run, keys: set[str]) -> list[str]:
    """Completed tasks whose main effect the target does not know, and effects of tasks that did not complete."""
    problems = []
    known_tasks = {key.split("-")[1] for key in keys if key.startswith("wm-")}
    for task, outcome in run.ledger.outcomes.items():
        if outcome.status is OutcomeStatus.COMPLETED and task not in known_tasks:
            problems.append(f"lost: task {task} completed, but the target knows of no effect")
        if outcome.status in (OutcomeStatus.REFUSED, OutcomeStatus.DENIED) and task in known_tasks:
            problems.append(f"not permitted: task {task} was {outcome.status}, but the target has an effect of it")
    foreign = [key for key in keys if not key.startswith("wm-") or key.split("-")[1] not in run.ledger.outcomes]
    return problems + [f"unaccounted: the target has an effect {key} of no finished task" for key in foreign]


def _unexpected(run: Run, outcomes: Sequence[LineOutcome], expected: Path) -> list[str]:
    lines = [line for line in expected.read_bytes().split(b"\n") if line.strip()]
    if len(lines) != len(outcomes):
        return [f"{expected} has {len(lines)} lines, the input {len(outcomes)}"]
    problems = []
    for raw, ours in zip(lines, outcomes, strict=True):
        want = msgspec.json.decode(raw, type=_Expected)
        right = {want.outcome, _ALSO.get(want.outcome, want.outcome)}
        if want.outcome == "completed" and not run.plan.approve:
            right.add("waiting")
        if ours.outcome not in right:
            problems.append(f"{want.id}: {ours.outcome} ({ours.reason}), expected {want.outcome}")
        elif ours.outcome == "completed" and round(ours.amount * 100) != round(want.amount * 100):
            problems.append(f"{want.id}: {ours.amount:.2f} moved, expected {want.amount:.2f}")
    completed = [raw for raw, ours in zip(lines, outcomes, strict=True) if ours.outcome == "completed"]
    return problems + run.plan.demo.differences(completed, run.world)


def _end_ms(outcome: Outcome) -> float:
    return next((time.ms for time in outcome.times if time.stage == "outcome"), 0.0)


def _spans(run: Run) -> list[tuple[datetime, datetime]]:
    """When each task that no person held up was accepted, and when it ended."""
    return [
        (outcome.header.at - timedelta(milliseconds=_end_ms(outcome)), outcome.header.at)
        for outcome in run.ledger.outcomes.values()
        if not any(time.stage == "approval" for time in outcome.times)
    ]


def _stage_times(ended: Sequence[Outcome]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for outcome in ended:
        for time in outcome.times:
            found.setdefault(time.stage, []).append(time.ms)
    return {stage: sorted(values) for stage, values in found.items()}
