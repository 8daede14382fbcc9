"""The pace of a model: never more than its rate, whoever asks."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.pace import Pace, Rate, pace_key

RATE = Rate(requests=60, tokens=6000)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 8000)), min_size=1, max_size=200))
def test_no_minute_has_more_than_its_rate_beside_what_was_saved_up(asked: list[tuple[float, int]]) -> None:
    pace, now_s = Pace(), 1_000_000.0
    turns: list[tuple[float, int]] = []
    for gap_s, tokens in asked:
        now_s += gap_s
        taken, wait_s = pace.take(RATE, tokens, now_s)
        assert wait_s >= 0
        if wait_s > 60:  # who will not wait so long takes no turn
            continue
        pace = taken
        turns.append((now_s + wait_s, min(tokens, RATE.tokens)))
    starts = sorted(at for at, _ in turns)
    for begin in starts:
        within = [tokens for at, tokens in turns if begin <= at < begin + 60]
        # A full bucket and what flows in meanwhile: twice the rate at most, plus the one that was let in last.
        assert len(within) <= 2 * RATE.requests + 1
        assert sum(within) <= 2 * RATE.tokens + max(tokens for _, tokens in turns)


def test_a_minutes_worth_may_be_asked_at_once_and_then_each_in_its_turn() -> None:
    pace, waits = Pace(), []
    for _ in range(63):
        pace, wait_s = pace.take(RATE, 1, 1000.0)
        waits.append(round(wait_s, 6))
    assert waits == [0.0] * 60 + [1.0, 2.0, 3.0]


def test_who_was_told_to_wait_is_left_alone_by_all() -> None:
    pace = Pace().blocked(1030.0).blocked(1010.0)
    assert pace.take(RATE, 1, 1000.0)[1] == 30.0
    assert pace.take(RATE, 1, 1031.0)[1] == 0.0


def test_a_models_name_is_one_token() -> None:
    assert pace_key("meta/llama-3.1:8b~q4 x") == "meta=2Fllama-3=2E1=3A8b=7Eq4=20x"


def test_a_clock_that_is_a_day_ahead_stops_nobody_for_a_day() -> None:
    pace, _ = Pace().take(RATE, 100, 1_000_000.0 + 86_400)
    assert pace.take(RATE, 100, 1_000_000.0)[1] == 0.0
    assert pace.blocked(1_000_000.0 + 86_400).take(RATE, 100, 1_000_000.0)[1] == 3600.0
