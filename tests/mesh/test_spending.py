"""The window of spending: a model of calls, kills and copies, walked by hypothesis."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from mesh.inference import Usage
from mesh.spending import Claim, OverBudgetError, Window, cost, dollars, micro_usd

CAP = 1000
KEYS = ("a", "b", "c")


def usage(amount: int, *, certain: bool = True) -> Usage:
    """A call that cost this."""
    return Usage(model="m", tokens_in=1, tokens_out=1, cost_micro_usd=amount, certain=certain)


class Spending(RuleBasedStateMachine):
    """Questions that are claimed, answered, lost and settled; the provider bills what was really asked."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()
        self.billed = 0
        self.settled: list[Usage] = []

    @rule(key=st.sampled_from(KEYS), amount=st.integers(0, 600))
    def claim(self, key: str, amount: int) -> None:
        """A call begins: for a question that may have been asked by somebody who died."""
        held = self.window.find(key)
        calls = held.given_up("2026-11-22") if held else ()
        claim = Claim(key=key, nonce="n", by="p", at_most=amount, model="m", calls=calls)
        if self.window.taken + amount > CAP:
            with pytest.raises(OverBudgetError, match="are left"):
                self.window.claimed(claim, CAP)
        else:
            self.window = self.window.claimed(claim, CAP)

    @precondition(lambda self: self.window.open)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """A call is answered, billed and settled."""
        claim = data.draw(st.sampled_from(self.window.open))
        amount = data.draw(st.integers(0, claim.at_most))
        self.billed += amount
        calls = (*claim.calls, usage(amount))
        self.window = self.window.without(claim.key).spend(calls)
        self.settled += calls

    @precondition(lambda self: self.window.open)
    @rule(data=st.data())
    def answered_and_killed(self, data: st.DataObject) -> None:
        """A call is answered and billed, and nobody is there to hear it."""
        claim = data.draw(st.sampled_from(self.window.open))
        self.billed += data.draw(st.integers(0, claim.at_most))
        self.window = self.window.put(replace(claim, calls=claim.given_up("2026-11-22"), at_most=0))

    @invariant()
    def the_cap_holds(self) -> None:
        """Whatever the provider bills, it is within the cap, and within what the window says is taken."""
        assert self.billed <= self.window.taken <= CAP

    @invariant()
    def what_is_spent_is_what_completions_say(self) -> None:
        """To the micro-dollar."""
        assert self.window.spent == cost(tuple(self.settled))
        assert self.window.uncertain == sum(each.cost_micro_usd for each in self.settled if not each.certain)
        assert self.window.calls == len(self.settled)


Spending.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSpending = Spending.TestCase


def test_a_call_of_another_process_is_alive_until_its_time_is_over() -> None:
    claim = Claim(key="a", nonce="n", by="model/one", until=100.0, at_most=5)
    assert claim.is_alive("model/two", 99.0)
    assert not claim.is_alive("model/two", 100.0)
    assert not claim.is_alive("model/two", 100.0 - 86_400)  # whose clock was a day ahead
    assert not claim.is_alive("model/one", 99.0)  # its own process has only one life at a time


@given(st.integers(0, 10**12))
def test_money_is_shown_to_the_last_digit(amount: int) -> None:
    shown = dollars(amount)
    assert micro_usd(float(shown.removeprefix("$"))) == amount
    assert len(shown.partition(".")[2]) >= 2
