"""Drift against the past: what is new is raised, chance is not, and nothing grows without bound."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.learner.chance import change, rise, sign_test
from agents.learner.drift import FEATURES_MAX, HIT, WINDOW, Pane, Series, shape_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


def after(series: Series, *items: frozenset[str] | tuple[str, ...]) -> Series:
    """The series with these items more."""
    for features in items:
        series = series.take(features, AT)
    return series


def test_the_shape_of_an_event_is_its_fields_and_their_types() -> None:
    shape = shape_of({"a": 1, "b": {"c": "x"}, "d": [{"e": None}, {"e": True}]})
    assert sorted(shape) == [
        "/a number",
        "/b object",
        "/b/c string",
        "/d array",
        "/d/[] object",
        "/d/[]/e boolean",
        "/d/[]/e null",
    ]


def test_a_new_field_a_changed_type_and_a_missing_field_are_raised() -> None:
    known = shape_of({"id": "x", "amount": 5})
    series = after(Series(), *[known] * WINDOW)
    assert series.raised == ()
    new = after(series, *[known] * 24, shape_of({"id": "x", "amount": 5, "note": "y"}))
    assert new.raised == ("/note was never seen before (string)",)
    changed = after(series, *[shape_of({"id": "x", "amount": "5"})] * 25)
    assert "/amount is string, was number" in changed.raised
    missing = after(series, *[shape_of({"id": "x"})] * 25)
    assert missing.raised == ("/amount number: 100.0% before, 0.0% now",)


def test_what_was_raised_is_over_when_it_has_become_usual() -> None:
    old, new = shape_of({"id": "x"}), shape_of({"id": "x", "note": "y"})
    series = after(Series(), *[old] * WINDOW, *[new] * WINDOW)
    assert series.raised and series.since == AT
    series = after(series, *[new] * WINDOW * 12)
    assert (series.raised, series.since) == ((), None)


def test_a_rate_is_raised_when_it_rises_and_not_when_it_wavers() -> None:
    hit: tuple[str, ...] = (HIT,)
    series = after(Series(), *([hit] * 5 + [()] * 95))
    assert after(series, *([hit] * 4 + [()] * 46)).raised == ()
    assert after(series, *([hit] * 15 + [()] * 10)).raised == ("5.0% before, 60.0% now",)


@given(st.lists(st.frozensets(st.text(max_size=3), max_size=9), max_size=250))
def test_a_series_is_bounded_whatever_comes(items: list[frozenset[str]]) -> None:
    many = [frozenset(f"{number} {part}" for part in features) for number, features in enumerate(items)]
    series = after(Series(), *many)
    for pane in (series.baseline, series.pane, series.last):
        assert len(pane.features) <= FEATURES_MAX
        assert all(0 <= number <= pane.items for number in pane.features.values())
    assert after(Series(), *many) == series


def test_a_baseline_forgets() -> None:
    baseline = Pane(items=10_000, features={"a": 10_000}).then(Pane(items=100, features={"b": 100}))
    assert baseline.items == 5_100


@pytest.mark.parametrize(
    ("before", "since", "p"),
    [((1, 4), (3, 4), 0.242857), ((0, 10), (5, 10), 0.016254), ((5, 10), (5, 10), 0.671859), ((0, 0), (5, 10), 1.0)],
)
def test_fishers_test_gives_the_published_values(before: tuple[int, int], since: tuple[int, int], p: float) -> None:
    """The first is Fisher's tea: 3 of 4 against 1 of 4, 17/70; the others were computed from the hypergeometric law."""
    assert rise(before, since) == pytest.approx(p, abs=1e-6)


def test_the_sign_test_is_the_binomial_tail() -> None:
    assert [sign_test(n, 0) for n in (0, 1, 5)] == [1.0, 0.5, 1 / 32]
    assert sign_test(5, 5) == pytest.approx(0.623047, abs=1e-6)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_probability_is_one(a: int, b: int, c: int, d: int) -> None:
    before, since = (a, a + b), (c, c + d)
    assert 0 <= rise(before, since) <= 1
    assert 0 <= change(before, since) <= 1
