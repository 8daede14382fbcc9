"""No sequence of messages leads to an effect without a valid permit: the real executor under forged decisions."""

import logging
from collections.abc import Iterator
from random import Random

import pytest
import structlog

from agents.executor import permit as permits
from mesh.records import Decision, Permit, Phase
from mesh.signing import PERMIT_TYPE, open_envelope
from tests.agents.executor.effect_machine import EVENTS, EffectMachine
from tests.agents.executor.simulated_target import TOOLS
from tests.agents.executor.simulated_task import FLAWS, StepSketch
from tests.agents.executor.virtual_time import virtual_time
from tests.redteam.catalogue import attack

pytestmark = pytest.mark.timeout(120)

LIVES = 60


@pytest.fixture(autouse=True)
def virtual() -> Iterator[None]:
    """Virtual time, and no logs of what the machine does on purpose."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with virtual_time():
        yield
    structlog.configure(**before)


class ForgingMachine(EffectMachine):
    """One task under two executors, where every decision may be forged, and more of them come at any time."""

    def another_decision_is_made(self, number: int, place: int, way: int) -> None:
        """Over the one that stands there, as often as one likes; each with one thing wrong."""
        phase = Phase.EXECUTE if number else Phase.PROPOSE
        self.decide(phase, sorted(FLAWS)[(place * 4 + way) % len(FLAWS)])


@attack(
    "model",
    "whoever may write decisions",
    "interleaves forged decisions with a genuine one, with crashes of two executors, lost answers, late calls",
    "every call at the target belongs to an effect on record under a decision that is in order; with a forged decision "
    "first there is no call at all",
    "the simulated target's calls, held against the journal after each step",
    "ASI02",
    "ASI03",
    "ASI10",
)
@pytest.mark.parametrize("first", ["", *sorted(FLAWS)])
def test_no_sequence_of_messages_leads_to_a_call_without_a_permit(first: str) -> None:
    calls = 0
    for seed in range(LIVES if not first else LIVES // 4):
        chance, machine = Random(seed), ForgingMachine()
        sketches = [
            StepSketch(chance.choice(sorted(TOOLS)), "", chance.random() < 0.3, chance.random() < 0.5, False)
            for _ in range(chance.randint(1, 3))
        ]
        machine.begin(sketches, first, {chance.choice(("crash", "network", "lost", "deadline"))})
        try:
            for _ in range(chance.randint(5, 50)):
                luck = chance.random()
                if luck < 0.04:
                    machine.another_decision_is_made(chance.randrange(2), chance.randrange(4), chance.randrange(4))
                elif luck < 0.6:
                    machine.an_executor_goes_on(chance.randrange(2), 0, 0)
                else:
                    machine.happens(chance.randrange(len(EVENTS) * 32))
                machine.nothing_forbidden_happened()
        finally:
            machine.teardown()
        calls += len(machine.target.sent)
        if first:
            assert machine.target.sent == []
    assert first or calls > LIVES // 2


@pytest.mark.parametrize("flaw", ["verdict", "task", "signer"])
def test_the_machine_finds_an_executor_that_takes_any_permit(flaw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is held against an executor that is broken on purpose: else it would prove nothing."""

    async def any_permit(decision: Decision, *_: object, **__: object) -> Permit:
        return open_envelope(decision.signed, PERMIT_TYPE, Permit, lambda key: None)[0]

    monkeypatch.setattr(permits, "check", any_permit)
    machine = ForgingMachine()
    machine.begin([StepSketch(sorted(TOOLS)[0], "", False, False, False)], flaw, set())
    with pytest.raises(AssertionError, match="is called without a permit"):
        machine.teardown()
