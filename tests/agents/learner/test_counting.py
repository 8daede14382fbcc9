"""The fold of outcomes into tallies, over all histories."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agents.learner.counting import Key, Kind, Tally, fold, keys, sentence
from mesh.records import Outcome, OutcomeStatus
from tests.agents.learner.endings import outcome

outcomes = st.builds(
    outcome,
    st.just("task"),
    st.sampled_from(OutcomeStatus),
    st.sampled_from(["", "retail.return", "retail.cancel"]),
    st.lists(st.sampled_from(["shop.return", "shop.cancel", "notify"]), max_size=4),
    st.one_of(st.none(), st.integers(0, 10**9).map(lambda us: us / 1000)),
)


def _numbered(endings: list[Outcome], start: int = 1) -> list[tuple[int, str, Outcome]]:
    return [(seq, f"subject {seq}", ending) for seq, ending in enumerate(endings, start)]


@given(st.lists(outcomes, max_size=30))
def test_every_outcome_counts_once_for_its_playbook_and_once_for_each_tool(endings: list[Outcome]) -> None:
    found = fold(_numbered(endings))
    expected: Counter[tuple[str, OutcomeStatus]] = Counter()
    for ending in endings:
        named = {f"tool/{tool}" for tool in ending.tools}
        named |= {f"playbook/{ending.playbook}"} if ending.playbook else set()
        expected.update((scope, ending.status) for scope in named)
    counted = {(key.scope, status): number for key, tally in found.items() for status, number in tally.by_status()}
    assert {pair: number for pair, number in counted.items() if number} == dict(expected)


@given(st.lists(outcomes, max_size=30), st.integers(0, 30))
def test_counting_may_stop_and_go_on_anywhere(endings: list[Outcome], cut: int) -> None:
    before = fold(_numbered(endings[:cut]))
    after = fold(_numbered(endings[cut:], len(endings[:cut]) + 1), before)
    assert after == fold(_numbered(endings))


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_mean_and_maximum_are_exact_to_the_microsecond(durations_us: list[int]) -> None:
    endings = [outcome("task", tools=(), ms=us / 1000) for us in durations_us]
    (tally,) = fold(_numbered(endings)).values()
    assert (tally.timed, tally.total_us, tally.max_us) == (len(durations_us), sum(durations_us), max(durations_us))
    assert tally.mean_ms == sum(durations_us) / len(durations_us) / 1000


def test_an_outcome_without_a_duration_counts_but_is_not_timed() -> None:
    (tally,) = fold(_numbered([outcome("task", tools=(), ms=None), outcome("task", tools=(), ms=3.0)])).values()
    assert (tally.tasks, tally.timed, tally.mean_ms) == (2, 1, 3.0)


def test_a_tool_used_twice_in_a_plan_counts_once() -> None:
    assert keys(outcome("task", tools=("notify", "notify"))) == (
        Key(Kind.PLAYBOOK, "retail.return"),
        Key(Kind.TOOL, "notify"),
    )


def test_the_sentence_says_what_a_person_would_ask() -> None:
    key = Key(Kind.PLAYBOOK, "retail.return")
    tally = Tally(completed=120, denied=3, timed=123, total_us=123 * 41_200, max_us=310_000)
    assert sentence(key, tally) == "retail.return: 120 completed, 3 denied; 41.2 ms on average, 310.0 ms at most"
    assert sentence(key, Tally()) == "retail.return: no outcomes"
