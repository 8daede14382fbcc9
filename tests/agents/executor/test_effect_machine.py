"""Two executors, crashes, redeliveries and late wake-ups in any order: each effect once, each outcome true.

And the machine that says so is held against executors that each break one rule of the protocol: it must find them out.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from agents.executor import dispatch, handler
from agents.executor import permit as permits
from agents.executor.dispatch import Dispatcher
from agents.executor.doubts import Doubts
from agents.executor.duties import Duties
from agents.executor.protocol import Dispatch
from mesh.checkpoint import Checkpoint
from mesh.records import Decision, Permit
from mesh.signing import PERMIT_TYPE, open_envelope
from tests.agents.executor import simulated_journal
from tests.agents.executor.effect_machine import ANY, EffectMachine, Focus, wander
from tests.agents.executor.virtual_time import virtual_time

LIVES = 800
LIVES_TO_FAIL = 6000

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def virtual() -> Iterator[None]:
    """Virtual time, and no logs of what the machine does on purpose."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with virtual_time():
        yield
    structlog.configure(**before)


@pytest.mark.timeout(180)
def test_whatever_the_order_effects_happen_once_and_outcomes_are_true() -> None:
    limits = settings(max_examples=120, stateful_step_count=40, deadline=None, database=None, derandomize=True)
    run_state_machine_as_test(EffectMachine, settings=limits)


@pytest.mark.timeout(180)
def test_many_more_orders_drawn_by_chance() -> None:
    for seed in range(LIVES):
        wander(seed)


def manual_calls_are_made_again(patch: pytest.MonkeyPatch) -> None:
    async def certainly(*_: object) -> bool:
        return True

    patch.setattr(Dispatcher, "_certainly_not_sent", certainly)


def the_note_of_a_call_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    async def forget(*_: object) -> None:
        return None

    patch.setattr(Checkpoint, "dispatch", forget)


def conflicts_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(simulated_journal, "_is_same", lambda message, stands: True)


def the_epoch_stays(patch: pytest.MonkeyPatch) -> None:
    def again(token: str, call: Any, key: str, epoch: int, expected_seq: int) -> Dispatch:
        return Dispatch(token, call, key, epoch - 1, expected_seq)

    patch.setattr(dispatch, "Dispatch", again)


def nobody_waits_until_a_call_is_settled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Doubts, "left_s", lambda self, effect, tool: 0.0)


def failures_are_not_closed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatcher, "close_failures", lambda self, task: None)


def refusals_close_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatcher, "closed_beforehand", lambda self, task: ())


def permits_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    async def read(decision: Decision, *_: object, **__: object) -> Permit:
        return open_envelope(decision.signed, PERMIT_TYPE, Permit, lambda key: None)[0]

    patch.setattr(permits, "check", read)


def a_permit_works_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handler, "_used_before", lambda task: False)


def nobody_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handler, "duties", lambda plan, decision, obliged: Duties(tuple(obliged)))


def obligations_are_passed_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(permits, "_check_obligations", lambda permit: None)


VERIFIED = Focus(("lax.verifiable", "strict.verifiable", "lax.idempotent"), ("time", "refusal"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("breaks", "focus"),
    [
        (manual_calls_are_made_again, ANY),
        (the_note_of_a_call_is_not_kept, ANY),
        (conflicts_are_ignored, ANY),
        (the_epoch_stays, ANY),
        (nobody_waits_until_a_call_is_settled, ANY),
        (failures_are_not_closed, VERIFIED),
        (refusals_close_nothing, Focus(troubles=("bundle", "time", "crash"))),
        (permits_are_not_checked, ANY),
        (nobody_is_told, ANY),
        (obligations_are_passed_over, ANY),
        (a_permit_works_twice, Focus(troubles=("decision", "crash", "deadline"))),
    ],
)
def test_an_executor_that_breaks_a_rule_is_found_out(
    breaks: Break, focus: Focus, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(LIVES_TO_FAIL):
            wander(seed, focus)
