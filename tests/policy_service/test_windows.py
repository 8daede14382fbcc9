"""Sliding windows: never less than what was taken in any window of their length, and never much more."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from policy_service.windows import BUCKETS, Window

WEEK_S = 7 * 24 * 3600
START_S = 1_767_312_000

steps = st.lists(st.tuples(st.integers(0, WEEK_S // 3), st.integers(0, 10_000)), max_size=40)


def filled(length_s: int, uses: list[tuple[int, int]]) -> tuple[Window, list[tuple[int, int]]]:
    """A window after these uses (seconds after the one before, amount), and when each was."""
    window, at, when = Window(length_s=length_s), START_S, []
    for pause_s, amount in uses:
        at += pause_s
        window = window.take(at, amount)
        when.append((at, amount))
    return window, when


@given(steps)
def test_a_window_counts_all_that_was_taken_in_its_length_and_at_most_a_bucket_more(
    uses: list[tuple[int, int]],
) -> None:
    window, when = filled(WEEK_S, uses)
    now = when[-1][0] if when else START_S
    inside = sum(amount for at, amount in when if at > now - WEEK_S)
    a_bucket_more = sum(amount for at, amount in when if at > now - WEEK_S - window.bucket_s)
    assert inside <= window.at(now).amount <= a_bucket_more
    assert sum(at > now - WEEK_S for at, _ in when) <= window.at(now).tasks


@given(steps, st.integers(0, 3 * WEEK_S))
def test_it_stays_small_and_empties_in_time(uses: list[tuple[int, int]], later_s: int) -> None:
    window, when = filled(WEEK_S, uses)
    assert len(window.at(window.seen_s).buckets) <= BUCKETS + 2
    last = when[-1][0] if when else START_S
    if later_s > WEEK_S + window.bucket_s:
        assert window.at(last + later_s).amount == 0


@given(steps)
def test_what_stands_in_the_journal_is_the_window(uses: list[tuple[int, int]]) -> None:
    window, _ = filled(WEEK_S, uses)
    assert msgspec.json.decode(msgspec.json.encode(window), type=Window) == window


@given(steps, st.integers(1, 10_000))
def test_what_is_given_back_was_taken(uses: list[tuple[int, int]], amount: int) -> None:
    window, when = filled(WEEK_S, uses)
    at = when[-1][0] if when else START_S
    taken = window.take(at, amount)
    assert taken.give_back(at, amount).at(at) == window.at(at)


def test_what_was_not_taken_is_not_given_back() -> None:
    window = Window(length_s=WEEK_S).take(START_S, 100)
    assert window.give_back(START_S, 101) == window
    assert window.give_back(START_S - WEEK_S, 100) == window


def test_a_clock_that_is_behind_lets_nothing_go_and_counts_as_now() -> None:
    window = Window(length_s=3600).take(START_S, 100)
    behind = window.take(START_S - 1800, 50)
    assert (behind.at(START_S - 1800).amount, behind.seen_s) == (150, START_S)
    assert behind.at(START_S + 3599).amount == 150


def test_a_clock_that_jumped_ahead_only_delays() -> None:
    window = Window(length_s=3600).take(START_S, 100).take(START_S + 7200, 1)
    assert window.at(START_S).amount == 1
    assert window.take(START_S + 10, 5).at(START_S + 10).amount == 6


@given(steps, st.integers(60, 2 * WEEK_S))
def test_a_limit_of_another_length_goes_on_from_what_was_taken(uses: list[tuple[int, int]], length_s: int) -> None:
    window, when = filled(WEEK_S, uses)
    now = when[-1][0] if when else START_S
    shorter = min(length_s, WEEK_S)
    inside = sum(amount for at, amount in when if at > now - shorter)
    assert window.resized(length_s).at(now).amount >= inside
