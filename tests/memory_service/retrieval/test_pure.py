import math

from hypothesis import given
from hypothesis import strategies as st

from memory_service.retrieval.budget import within_budget
from memory_service.retrieval.documents import Document, Weights, embedded_text
from memory_service.retrieval.fusion import fused, scaled

SCORES = st.dictionaries(st.integers(1, 50), st.floats(-1, 100, allow_subnormal=False), max_size=20)
WEIGHTS = st.builds(Weights, st.floats(0, 1), st.floats(0, 1))


@given(SCORES, SCORES, WEIGHTS)
def test_fusion_gives_every_row_once_with_a_score_of_0_to_1_best_first(
    lexical: dict[int, float], vector: dict[int, float], weights: Weights
) -> None:
    found = fused(lexical, vector, weights)
    assert {row for row, _ in found} == {*lexical, *vector}
    assert len(found) == len({*lexical, *vector})
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)


@given(SCORES, SCORES, st.floats(0.1, 10))
def test_fusion_does_not_depend_on_the_unit_of_either_side(
    lexical: dict[int, float], vector: dict[int, float], factor: float
) -> None:
    larger = {row: score * factor for row, score in lexical.items()}
    before, after = dict(fused(lexical, vector, Weights())), dict(fused(larger, vector, Weights()))
    assert all(math.isclose(before[row], after[row], abs_tol=1e-6) for row in before)


def test_what_both_sides_find_comes_before_what_one_finds() -> None:
    found = fused({1: 9.0, 2: 8.0, 3: 1.0}, {2: 0.9, 4: 0.8, 5: 0.1}, Weights())
    assert [row for row, _ in found][:2] == [2, 1]
    assert found[0][1] == 0.5 * (8 / 9) + 0.5


def test_one_side_alone_has_all_the_weight() -> None:
    assert fused({1: 2.0, 2: 1.0}, {}, Weights(0.3, 0.7)) == [(1, 1.0), (2, 0.5)]
    assert scaled({1: 5.0, 2: 5.0, 3: -1.0}) == {1: 1.0, 2: 1.0, 3: 0.0}


def test_a_budget_is_kept_and_nothing_lower_slips_in_front() -> None:
    texts = ["a" * 40, "b" * 41, "c"]
    assert within_budget(texts, 10) == 1
    assert within_budget(texts, 20) == 1
    assert within_budget(texts, 22) == 3
    assert within_budget(texts, 9) == 0
    assert within_budget(["two words", "and three more"], 4, lambda text: len(text.split())) == 1


@given(st.lists(st.text(max_size=50), max_size=10), st.integers(0, 60))
def test_the_texts_within_a_budget_are_the_longest_beginning_that_fits(texts: list[str], budget: int) -> None:
    count = within_budget(texts, budget, len)
    assert sum(map(len, texts[:count])) <= budget
    assert count == len(texts) or sum(map(len, texts[: count + 1])) > budget


def test_names_are_given_to_the_model_as_words() -> None:
    assert (
        embedded_text(Document("1", "s", "customer/anna-b", "ships_by", "express"))
        == "customer anna b ships by: express"
    )
    assert embedded_text(Document("1", "s", "", "", "only text")) == "only text"
