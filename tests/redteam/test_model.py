"""No sequence of messages leads to an effect without a valid permit: the real executor under forged decisions."""

from random import Random

import pytest

from mesh.records import Phase
from tests.agents.executor.effect_machine import EVENTS, EffectMachine
from tests.agents.executor.simulated_target import TOOLS
from tests.agents.executor.simulated_task import FLAWS, StepSketch
from tests.redteam.catalogue import attack

pytestmark = pytest.mark.timeout(120)

LIVES = 60


class ForgingMachine(EffectMachine):
    """One task under two executors, where every decision may be forged, and more of them come at any time."""

    def another_decision_is_made(self, number: int, place: int, way: int) -> None:
        """Over the one that stands there, as often as one likes; each with one thing wrong."""
        phase = Phase.EXECUTE if number else Phase.PROPOSE
        self.decide(phase, sorted(FLAWS)[(place * 4 + way) % len(FLAWS)])


@attack(
    "model",
    "whoever may write decisions",
    "interleaves forged decisions with a genuine one, with crashes of two executors, lost answers, late calls, time "
    "passing, a bundle withdrawn",
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
        machine.begin(sketches, first, {"decision", chance.choice(("time", "crash", "network", "bundle"))})
        try:
            for _ in range(chance.randint(5, 50)):
                forge = chance.random() < 0.06
                pick = EVENTS.index("another_decision_is_made") * 32 + chance.randrange(32) if forge else None
                machine.happens(chance.randrange(len(EVENTS) * 32) if pick is None else pick)
                machine.nothing_forbidden_happened()
        finally:
            machine.teardown()
        calls += len(machine.target.sent)
        if first:
            assert machine.target.sent == []
    assert first or calls > LIVES // 2
