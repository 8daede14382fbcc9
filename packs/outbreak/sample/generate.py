"""Writes the sample's files; the same program always writes the same bytes.

Run ``python -m packs.outbreak.sample.generate [FOLDER]``.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from packs.outbreak.backtest.data import IMPORTED, LOCAL, load
from packs.outbreak.sample.bulletins import tell
from packs.outbreak.sample.stories import CDC, CITY, Story, after, counts, typed
from packs.outbreak.weeks import week_name, week_number

FOLDER = Path(__file__).parent
HISTORY_FROM, FIRST, LAST = "2008-W14", "2014-W18", "2014-W27"
SERIES = {**{place: (place, "dengue") for place in LOCAL}, IMPORTED: ("taiwan", "dengue-imported")}

# What is no number, by what is wrong with it.
MALFORMED: tuple[dict[str, Any], ...] = (
    {"count": -1},
    {"count": "eight"},
    {"document": "the weekly report"},
    {"week": "2014-W60"},
    {"received": "2014-02-31"},
    {"row": ""},
    {"place": "<script>alert(1)</script>"},
)


def build() -> dict[str, bytes]:
    """Every file's content by its name."""
    series = load()
    lines: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []

    def add(event: dict[str, Any], outcome: str, then: Mapping[str, Any] | None = None) -> None:
        lines.append(event)
        expected.append({"id": event["id"], "outcome": outcome} | dict(then or {}))

    for number in range(week_number(FIRST), week_number(LAST) + 1):
        week = week_name(number)
        for name, (place, disease) in SERIES.items():
            told, outcome, then = typed(place, week, series[name][number])
            data = counts(place, week, told, disease=disease, received=_monday(number + 1).isoformat())
            about = {"place": place, "disease": disease, "week": week}
            add(_event(len(lines), number, "outbreak.counts.reported", f"{place}/{disease}", data), "completed")
            close = _event(len(lines), number, "outbreak.week.closed", f"{place}/{disease}", about, "/office")
            add(close, outcome, then)
        for story in after(week):
            add(_of_story(len(lines), number, story), story.outcome, story.then)
    _oddities(lines, expected)
    return {
        "registry.json": _registry(),
        "history.csv": _history(series),
        "events.jsonl": _lines(lines),
        "expected.jsonl": _lines(expected),
        **_messages(series[LOCAL[0]]),
    }


def _messages(real: Mapping[int, int]) -> dict[str, bytes]:
    """Bulletins for models to read, as ``workmesh demo outbreak --text`` sends them."""
    lines, expected = [], []
    for n, story in enumerate(tell(dict(real))):
        event = _of_story(n, week_number(story.week), story) | {"id": f"bulletins-{n:04}"}
        lines.append(event)
        expected.append({"id": event["id"], "outcome": story.outcome} | story.then)
    return {"messages.jsonl": _lines(lines), "messages-expected.jsonl": _lines(expected)}


def _oddities(lines: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """What is no event, what came before, and what came before with other content."""
    first, number = lines[0], week_number(LAST)
    for wrong in MALFORMED:
        data = counts("kaohsiung", "2014-W20", 1, received="2014-05-20") | wrong
        event = _event(len(lines), number, "outbreak.counts.reported", "kaohsiung/dengue", data)
        lines.append(event)
        expected.append({"id": event["id"], "outcome": "rejected"})
    lines.append(first)
    expected.append({"id": first["id"], "outcome": "duplicate"})
    lines.append(first | {"data": first["data"] | {"count": 40}})
    expected.append({"id": first["id"], "outcome": "conflict"})


def _of_story(n: int, number: int, story: Story) -> dict[str, Any]:
    return _event(n, number, story.kind, story.subject, story.data, story.source)


def _event(
    n: int, number: int, kind: str, subject: str, data: Mapping[str, Any], source: str = f"/sources/{CDC}"
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"outbreak-{n:04}",
        "source": source,
        "type": kind,
        "subject": subject,
        "time": f"{_monday(number + 1).isoformat()}T08:{n // 60 % 60:02}:{n % 60:02}Z",
        "datacontenttype": "application/json",
        "data": dict(data),
    }


def _registry() -> bytes:
    series = [
        {"place": place, "disease": disease, "ceiling": 5000, "subscribers": [f"alerts@{place}.example"]}
        for place, disease in SERIES.values()
    ]
    names = [f"{place}/{disease}" for place, disease in SERIES.values()]
    sources = [
        {"name": CDC, "channel": f"/sources/{CDC}", "series": names},
        {"name": CITY, "channel": f"/sources/{CITY}", "series": ["kaohsiung/dengue"]},
    ]
    content = {"series": series, "sources": sources, "history_source": CDC}
    return (json.dumps(content, indent=1) + "\n").encode()


def _history(series: Mapping[str, Mapping[int, int]]) -> bytes:
    rows = ["place,disease,week,count,received"]
    for name, (place, disease) in SERIES.items():
        for number in range(week_number(HISTORY_FROM), week_number(FIRST)):
            received = _monday(number + 1).isoformat()
            rows.append(f"{place},{disease},{week_name(number)},{series[name][number]},{received}")
    return ("\n".join(rows) + "\n").encode()


def _monday(number: int) -> date:
    return date.fromisocalendar(2014, 1, 1) + timedelta(weeks=number - week_number("2014-W01"))


def _lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines).encode()


def main(argv: list[str]) -> int:
    """Write all files."""
    folder = Path(argv[0]) if argv else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        (folder / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
