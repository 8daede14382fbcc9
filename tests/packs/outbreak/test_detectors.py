"""Each detector by itself: what it was published as, and that it is a function of the past alone."""

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nbinom

from packs.outbreak.consensus import detectors
from packs.outbreak.detectors import bayes, cusum, ears, farrington
from packs.outbreak.detectors.reading import Reading, State
from packs.outbreak.series import Series
from packs.outbreak.verdict import Rules
from packs.outbreak.weeks import is_over, week_name, week_number

LAST = week_number("2014-W30")
QUICK: dict[str, Callable[[Series], Reading]] = {
    "ears-c1": ears.c1,
    "ears-c2": ears.c2,
    "ears-c3": ears.c3,
    "cusum": cusum.cusum,
    "bayes": bayes.bayes,
}
ALL = QUICK | {"farrington": farrington.farrington}

counts = st.lists(st.integers(0, 60), min_size=313, max_size=313)


def series(*values: float) -> Series:
    """A series that ends with these values."""
    return Series(LAST, np.array(values, dtype=np.float64))


def usual(mean: float = 8.0, weeks: int = 313, seed: int = 1) -> list[float]:
    """Six years of Poisson counts with a season."""
    phase = 2 * np.pi * np.arange(weeks) / 52.1775
    rng = np.random.default_rng(seed)
    return [float(value) for value in rng.poisson(mean * (1 + 0.6 * np.sin(phase)))]


def points(values: list[int]) -> dict[int, int]:
    return {LAST - len(values) + 1 + n: value for n, value in enumerate(values)}


@pytest.mark.parametrize("name", ALL)
def test_a_detector_is_silent_on_a_gap_and_on_too_short_a_past(name: str) -> None:
    assert ALL[name](series(*[1.0] * 5)).state is State.SILENT
    holed = usual()
    holed[-4] = math.nan
    assert ALL[name](series(*holed)).state is State.SILENT


@pytest.mark.parametrize("name", ALL)
def test_a_usual_week_is_quiet_and_five_times_as_many_are_an_alarm(name: str) -> None:
    values = [*usual()[:-1], 6.0]
    quiet = ALL[name](series(*values))
    assert quiet.state is State.QUIET, quiet
    values[-1] = 60.0
    assert ALL[name](series(*values)).state is State.ALARM


@pytest.mark.parametrize("name", QUICK)
@given(values=counts)
@settings(max_examples=40, deadline=None)
def test_the_count_from_which_it_is_an_alarm_is_exact(name: str, values: list[int]) -> None:
    reading = QUICK[name](series(*values))
    for now in {reading.alarm_at - 1, reading.alarm_at}:
        if now >= 0:
            again = QUICK[name](series(*values[:-1], now))
            assert (again.state is State.ALARM) == (now >= reading.alarm_at)
            assert again.alarm_at == reading.alarm_at


def test_so_it_is_for_the_regression() -> None:
    values = usual()
    reading = farrington.farrington(series(*values))
    assert farrington.farrington(series(*values[:-1], reading.alarm_at)).state is State.ALARM
    assert farrington.farrington(series(*values[:-1], reading.alarm_at - 1)).state is State.QUIET


@given(values=counts, later=st.lists(st.integers(0, 5000), max_size=30))
@settings(max_examples=15, deadline=None)
def test_no_detector_looks_ahead(values: list[int], later: list[int]) -> None:
    past, more = points(values), points(values)
    more |= {LAST + 1 + n: value for n, value in enumerate(later)}
    for detect in detectors(Rules()):
        assert detect(Series.of(past, LAST)) == detect(Series.of(more, LAST))


def test_ears_is_what_was_published() -> None:
    before = [3.0, 5.0, 4.0, 6.0, 2.0, 4.0, 4.0]
    mean, deviation = np.mean(before), np.std(before, ddof=1)
    c1 = ears.c1(series(0.0, 0.0, *before, 12.0))
    assert c1.value == pytest.approx((12 - mean) / deviation, abs=1e-3)
    assert (c1.threshold, c1.state) == (3.0, State.ALARM)
    c2 = ears.c2(series(*before, 50.0, 60.0, 12.0))  # the two weeks before are no part of its baseline
    assert c2.value == pytest.approx((12 - mean) / deviation, abs=1e-3)
    slow = series(0.0, 0.0, *before, 7.0, 7.0, 7.0)
    assert ears.c2(slow).state is State.QUIET and ears.c3(slow).state is State.ALARM


def test_bayes_is_the_quantile_of_the_predictive_distribution() -> None:
    values = usual()
    line = series(*values)
    reference = [*values[-7:-1]]
    for year in (1, 2):
        middle = len(values) - 1 - round(year * 52.1775)
        reference += values[middle - 6 : middle + 7]
    size, n = sum(reference) + 0.5, len(reference)
    assert bayes.bayes(line).threshold == nbinom.ppf(0.999, size, n / (n + 1))


def test_the_sum_grows_over_weeks_that_are_each_no_alarm() -> None:
    calm = [2.0] * 310
    assert cusum.cusum(series(*calm, 5.0)).state is State.QUIET
    assert cusum.cusum(series(*calm, 5.0, 5.0, 5.0, 5.0)).state is State.ALARM


def test_the_regression_forgets_past_outbreaks() -> None:
    values = usual()
    without = farrington.farrington(series(*values))
    for n in range(208, 213):  # an outbreak two years ago, in this season
        values[n] = 200.0
    with_outbreak = farrington.farrington(series(*values))
    plain = max(usual()[:-26]) * 1.5
    assert without.threshold <= with_outbreak.threshold < plain + 25


def test_the_regression_knows_the_season() -> None:
    high, low = series(*usual(20, 327)[-313:]), series(*usual(20, 353)[-313:])  # at the top, and at the bottom
    readings = farrington.farrington(high), farrington.farrington(low)
    assert readings[0].expected > 2 * readings[1].expected


@given(number=st.integers(0, 5000))
def test_weeks_are_counted(number: int) -> None:
    assert week_number(week_name(number)) == number
    assert week_name(number) < week_name(number + 1)


@pytest.mark.parametrize("wrong", ["2014-W54", "2014-W53", "2014-30", "W30", "2014-W00"])
def test_what_is_no_week_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="week"):
        week_number(wrong)


def test_a_week_is_over_on_the_monday_after() -> None:
    assert not is_over("2014-W22", date(2014, 6, 1))
    assert is_over("2014-W22", date(2014, 6, 2))
