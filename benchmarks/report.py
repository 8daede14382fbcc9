"""What a bench found, as a summary, as tables for a terminal and a page, and as a picture of where the time goes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from rich.table import Table

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
PICTURE = Path("images") / "where-the-time-goes.svg"

Rows = list[tuple[str, ...]]
_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#9c755f", "#edc948")


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that everything else is measured by; those of parts that did not run are left out."""
    figures: dict[str, Any] = {}
    if loop := found.get("loop"):
        best = max(loop["loop"], key=lambda count: loop["loop"][count]["tasks_per_s"])
        figures |= {
            "loop_tasks_per_s": loop["loop"][best]["tasks_per_s"],
            "floor_tasks_per_s": loop["floor"][best]["tasks_per_s"],
            "ratio": loop["ratio"][best],
            "p50_ms_unloaded": loop["loop"][1]["p50_ms"],
        }
    if decided := found.get("decisions"):
        figures["decisions_per_s"] = decided["decisions_per_s"]
    if latency := found.get("latency"):
        figures["decision_p50_ms"] = latency["in_flight"][1]["p50_ms"]
    if memory := found.get("memory"):
        figures["recall_p50_ms"] = memory["words_and_vectors"]["p50_ms"]
        figures["recall_p99_ms"] = memory["words_and_vectors"]["p99_ms"]
    if remembered := found.get("facts"):
        figures["fact_writes_per_s"] = remembered["writes_per_s"]
    if rest := found.get("rest"):
        figures["rss_mb"] = rest["rss_mb"]
    return figures


def sections(result: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    """Each part as a title and rows, the first of them the heads."""
    parts = result["parts"]
    yield "Where it ran", [("what", "value"), *result["machine"].items()]
    if found := parts.get("loop"):
        yield from _loop(found)
    if found := parts.get("backlog"):
        yield from _backlog(found)
    if found := parts.get("executors"):
        rows = [(count, *_speeds(item)) for count, item in found.items()]
        yield "Executors, 256 in flight", [("executors", "tasks/s", "p50 ms", "p99 ms"), *rows]
    if found := parts.get("decisions"):
        yield (
            "Policy alone",
            [("policies", "plans", "decisions/s"), _texts(found, "policies", "plans", "decisions_per_s")],
        )
    if found := parts.get("latency"):
        yield from _latency(found)
    if found := parts.get("commits"):
        rows = [(size, *_texts(item, "records_per_s", "server_us_per_record")) for size, item in found.items()]
        yield "Group commit, one commit after the other", [("records", "records/s", "server's CPU us a record"), *rows]
    if found := parts.get("shop"):
        row = _texts(found, "events", "tasks_per_s", "p50_ms", "p99_ms", "lost", "duplicate_effects")
        heads = ("events", "tasks/s", "p50 ms", "p99 ms", "lost", "repeated")
        yield "The retail sample, with the shop over HTTP", [heads, row]
    if found := parts.get("memory"):
        yield from _memory(found)
    if found := parts.get("facts"):
        yield from _facts(found)
    if found := parts.get("rest"):
        sizes = [(name, str(size)) for name, size in found["rss_mb"].items()]
        yield f"At rest, ready in {found['ready_in_s']} s", [("process", "MB"), *sizes]


def _loop(found: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    heads = ("in flight", "floor tasks/s", "loop tasks/s", "ratio", "floor p50 ms", "loop p50 ms", "loop p99 ms")
    rows: Rows = [heads]
    for count, ours in found["loop"].items():
        bare = found["floor"][count]
        row = (count, bare["tasks_per_s"], ours["tasks_per_s"], found["ratio"][count], bare["p50_ms"])
        rows.append(tuple(map(str, (*row, ours["p50_ms"], ours["p99_ms"]))))
    yield "The loop against bare nats-py with as many durable records (floor), medians of three runs in turns", rows
    costs = found["costs"]
    cpu = [(name, str(value)) for name, value in costs["cpu_s_per_1000_tasks"].items()]
    title = f"CPU of 1,000 tasks; they are {costs['journal_mb_per_1000_tasks']} MB in the journal"
    yield title, [("process", "CPU s"), *cpu]


def _memory(found: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    names = {"words": "words", "words and vectors": "words_and_vectors", "the model and numpy": "scan"}
    rows = [(name, *_texts(found[key], "p50_ms", "p99_ms")) for name, key in names.items()]
    title = (
        f"Recall over {found['documents']} documents in one scope; written without vectors at "
        f"{found['writes_per_s']}/s, embedded at {found['embedded_per_s']}/s; the model alone takes "
        f"{found['model_alone_p50_ms']} ms a question; {found['database_mb']} MB in SQLite, "
        f"{found['vectors_mb']} MB of vectors"
    )
    yield title, [("by", "p50 ms", "p99 ms"), *rows]
    yield "Memory of that process", [("", "MB"), *((name, str(size)) for name, size in found["rss_mb"].items())]


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    names = {"subject": "by_subject", "words": "by_words"}
    rows = [(name, *_texts(found[key], "p50_ms", "p99_ms")) for name, key in names.items()]
    title = (
        f"Memory over the bus, {found['facts']} facts: remembered at {found['writes_per_s']}/s, "
        f"{found['writes_per_s_one_a_request']}/s one a request, all on disk; {found['database_mb']} MB in SQLite, "
        f"{found['rss_mb']} MB of the process"
    )
    yield title, [("recall by", "p50 ms", "p99 ms"), *rows]


def _latency(found: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    names = ("decisions", "tasks_per_s", "p50_ms", "p99_ms")
    rows = [(str(count), *_texts(item, *names)) for count, item in found["in_flight"].items()]
    title = (
        f"A decision on the bus: from plan stored to decision stored, {found['policies']} policies, in the whole loop"
    )
    yield title, [("in flight", "decisions", "tasks/s", "p50 ms", "p99 ms"), *rows]


def _backlog(found: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    names = list(next(iter(found["at"].values()))["rss_mb"])
    rows = [
        (str(mark), str(item["tasks_per_s"] or ""), *(str(item["rss_mb"][name]) for name in names))
        for mark, item in found["at"].items()
    ]
    title = (
        f"A backlog of {found['events']} events, accepted at {found['accepted_per_s']}/s; "
        f"the executor killed before it, the next outcome came {found['recovery_s']} s after"
    )
    peaks = ("most ever", "", *(str(found["peak_rss_mb"][name]) for name in names))
    yield title, [("tasks done", "tasks/s", *(f"{name} MB" for name in names)), *rows, peaks]


def _speeds(item: Mapping[str, Any]) -> tuple[str, ...]:
    return _texts(item, "tasks_per_s", "p50_ms", "p99_ms")


def _texts(item: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    return tuple(str(item[name]) for name in names)


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """The sections for a terminal."""
    for title, (heads, *rows) in sections(result):
        table = Table(*heads, title=title)
        for row in rows:
            table.add_row(*row)
        yield table


def markdown(result: Mapping[str, Any]) -> str:
    """The sections for a page."""
    parts = []
    for title, (heads, *rows) in sections(result):
        lines = [heads, ["---"] * len(heads), *rows]
        parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def write_report(page: Path, result: Mapping[str, Any]) -> None:
    """Put the tables between the page's markers, and the picture beside it; raises ``ValueError`` without markers."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no {BEGIN} and {END} to write between")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    page.write_text(f"{head}{BEGIN}\n\n{markdown(result)}\n\n{END}{tail}", encoding="utf-8")
    if loop := result["parts"].get("loop"):
        picture = page.parent / PICTURE
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(svg(loop["stages_ms"], loop["costs"]["cpu_s_per_1000_tasks"]), encoding="utf-8")


def svg(stages_ms: Mapping[str, float], cpu_ms: Mapping[str, float]) -> str:
    """Two bars: the milliseconds of one task alone, by record, and the CPU milliseconds of a task, by process."""
    spent = {name: value for name, value in cpu_ms.items() if name != "all"}
    body = [
        _bar(40, f"one task alone, from accepted event to outcome: {sum(stages_ms.values()):.1f} ms", stages_ms),
        _bar(150, f"CPU of a task at 256 in flight: {sum(spent.values()):.2f} ms", spent),
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 250" font-family="sans-serif" font-size="13">'
        f'<rect width="860" height="250" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


def _bar(top: int, title: str, values: Mapping[str, float]) -> str:
    """One stacked bar with its title above and a legend below."""
    total, left = sum(values.values()) or 1.0, 20.0
    parts = [f'<text x="20" y="{top - 10}" fill="#222" font-weight="bold">{escape(title)}</text>']
    for number, (name, value) in enumerate(values.items()):
        width, colour = 820 * value / total, _COLOURS[number % len(_COLOURS)]
        label = f"{name} {value:.2f}"
        parts.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="34" fill="{colour}"/>')
        x, y = 20 + (number % 4) * 205, top + 54 + 18 * (number // 4)
        parts.append(f'<rect x="{x}" y="{y - 10}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="{y}" fill="#222">{escape(label)}</text>')
        left += width
    return "".join(parts)
