"""The circuit breaker: a model of the rule, walked by hypothesis."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesh.breaker import Breaker, BreakerState
from mesh.errors import NotSentError

THRESHOLD, PAUSE_S = 3, 10.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def breaker(clock: Clock) -> Breaker:
    """A breaker that opens after three failures, for ten seconds."""
    return Breaker("shop", threshold=THRESHOLD, pause_s=PAUSE_S, clock=clock)


def opened(clock: Clock) -> Breaker:
    """A breaker that has just opened."""
    made = breaker(clock)
    for _ in range(THRESHOLD):
        made.check()
        made.failed()
    return made


def test_it_opens_after_failures_in_a_row_and_says_so() -> None:
    made = opened(Clock())
    assert made.state is BreakerState.OPEN
    with pytest.raises(NotSentError, match="circuit breaker of shop is open after 3 failures"):
        made.check()


def test_one_success_starts_the_count_anew() -> None:
    made = breaker(Clock())
    for _ in range(10):
        for _ in range(THRESHOLD - 1):
            made.failed()
            assert made.state is BreakerState.CLOSED
        made.succeeded()


def test_it_tells_when_a_call_is_worth_another_look() -> None:
    clock = Clock()
    assert breaker(clock).wait_s() is None
    made = opened(clock)
    assert made.wait_s() == PAUSE_S
    clock.time += 0.75 * PAUSE_S
    assert made.wait_s() == PAUSE_S / 4
    clock.time += PAUSE_S
    made.check()
    assert made.wait_s() == PAUSE_S / 4  # one tries now: it may be over at any moment
    made.succeeded()
    assert made.wait_s() is None


def test_pauses_grow_while_the_target_stays_away_and_begin_anew_when_it_is_back() -> None:
    clock = Clock()
    made = Breaker("shop", threshold=1, pause_s=1.0, pause_max_s=5.0, clock=clock)
    made.failed()
    pauses = []
    for _ in range(9):
        wait = made.wait_s()
        assert wait is not None
        pauses.append(wait)
        clock.time += wait
        made.check()
        made.failed()
    assert pauses == [1, 1, 1, 1, 1, 2, 4, 5, 5]
    clock.time += 5
    made.check()
    made.succeeded()
    made.failed()
    assert made.wait_s() == 1


def test_after_the_pause_one_call_at_a_time_may_try() -> None:
    clock = Clock()
    made = opened(clock)
    clock.time += PAUSE_S
    made.check()
    assert made.state is BreakerState.HALF_OPEN
    with pytest.raises(NotSentError):
        made.check()


def test_a_try_that_fails_opens_it_again_for_a_whole_pause() -> None:
    clock = Clock()
    made = opened(clock)
    clock.time += PAUSE_S
    made.check()
    made.failed()
    clock.time += PAUSE_S - 0.001
    with pytest.raises(NotSentError):
        made.check()
    clock.time += 0.001
    made.check()


def test_a_try_that_tells_nothing_leaves_room_for_another() -> None:
    clock = Clock()
    made = opened(clock)
    clock.time += PAUSE_S
    made.check()
    made.released()
    made.check()
    made.succeeded()
    assert made.state is BreakerState.CLOSED
    made.check()
    made.check()


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin and end in any order; the breaker is held against the rule."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = breaker(self.clock)
        self.under_way = 0
        self.trying = False
        self.opened_at = -PAUSE_S

    @rule(seconds=st.sampled_from([0.5, 5.0, PAUSE_S]))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule()
    def a_call_begins(self) -> None:
        before = self.breaker.state
        try:
            self.breaker.check()
        except NotSentError:
            assert before is not BreakerState.CLOSED
        else:
            assert self.breaker.state is not BreakerState.OPEN
            if self.breaker.state is BreakerState.HALF_OPEN:
                assert not self.trying
                self.trying = True
            self.under_way += 1

    @precondition(lambda self: self.under_way)
    @rule(how=st.sampled_from(["succeeded", "failed", "released"]))
    def a_call_ends(self, how: str) -> None:
        getattr(self.breaker, how)()
        self.under_way -= 1
        self.trying = False
        if how == "succeeded":
            assert self.breaker.state is BreakerState.CLOSED
        if how == "failed" and self.breaker.state is BreakerState.OPEN:
            self.opened_at = self.clock.time

    @invariant()
    def an_open_breaker_lets_nothing_through_before_its_pause_is_over(self) -> None:
        if self.breaker.state is BreakerState.OPEN and self.clock.time < self.opened_at + PAUSE_S:
            with pytest.raises(NotSentError):
                self.breaker.check()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
