"""Which models are asked: a table, and what no rule may do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.planner.routing import SCARCE, Need, judged, route
from mesh.inference import Mode, ModelRole, Tier

S, L, J = Tier.SMALL, Tier.LARGE, Tier.JUDGE


@pytest.mark.parametrize(
    ("role", "sample", "need", "chain", "mode"),
    [
        (ModelRole.CLASSIFY, 0, Need(), (S, J, L), Mode.INTERACTIVE),
        (ModelRole.EXTRACT, 0, Need(), (S, J, L), Mode.INTERACTIVE),
        (ModelRole.EXTRACT, 1, Need(), (J, S, L), Mode.INTERACTIVE),
        (ModelRole.EXTRACT, 2, Need(), (L, S, J), Mode.INTERACTIVE),
        (ModelRole.PLAN, 0, Need(novel=True), (L, S), Mode.INTERACTIVE),
        (ModelRole.JUDGE, 0, Need(), (J, L), Mode.INTERACTIVE),
        (ModelRole.PLAN, 0, Need(novel=True, budget_left=0.05), (S,), Mode.INTERACTIVE),
        (ModelRole.EXTRACT, 2, Need(budget_left=0.05), (S, J), Mode.INTERACTIVE),
        (ModelRole.EXTRACT, 0, Need(can_wait=True), (S, J, L), Mode.BATCH),
    ],
)
def test_the_route(role: ModelRole, sample: int, need: Need, chain: tuple[Tier, ...], mode: Mode) -> None:
    found = route(role, need, sample)
    assert (found.chain, found.mode) == (chain, mode)
    assert found.reason


needs: Any = st.builds(
    Need,
    risk=st.sampled_from(("low", "medium", "high")),
    amount=st.integers(0, 10**7),
    large_amount=st.integers(0, 10**7),
    novel=st.booleans(),
    can_wait=st.booleans(),
    budget_left=st.floats(0, 1),
)


@given(st.sampled_from(list(ModelRole)), needs, st.integers(0, 4))
def test_somebody_is_always_asked_and_nobody_twice(role: ModelRole, need: Need, sample: int) -> None:
    found = route(role, need, sample)
    assert found.chain
    assert len(set(found.chain)) == len(found.chain)
    assert (L in found.chain) <= (need.budget_left >= SCARCE)
    assert (found.mode is Mode.BATCH) is need.can_wait


@given(needs, st.floats(0, 1))
def test_the_budget_has_no_say_in_whether_a_judge_looks(need: Need, left: float) -> None:
    poorer = Need(need.risk, need.amount, need.large_amount, need.novel, need.can_wait, left)
    assert judged(need) == judged(poorer)
    assert bool(judged(need)) == (need.novel or (need.risk != "low" and need.amount > need.large_amount))


def test_the_first_two_readings_begin_with_different_models() -> None:
    assert route(ModelRole.EXTRACT, Need(), 0).chain[0] is not route(ModelRole.EXTRACT, Need(), 1).chain[0]
