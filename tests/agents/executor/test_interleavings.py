"""Orders of events that the effect machine found to do harm, each played by hand.

Two executors at one task, in simulated surroundings; at the end of each the machine's own checks must hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mesh.records import OutcomeStatus
from tests.agents.executor.effect_machine import EffectMachine
from tests.agents.executor.simulated_executor import Process
from tests.agents.executor.simulated_journal import LOST
from tests.agents.executor.simulated_target import SETTLE_S, TIMEOUT_S
from tests.agents.executor.simulated_task import PERMIT_S, StepSketch
from tests.agents.executor.virtual_time import CLOCK, virtual_time


@contextmanager
def playing(*tools: str) -> Iterator[EffectMachine]:
    """A task whose steps call these tools; its decision has been delivered to the first executor."""
    with virtual_time():
        machine = EffectMachine()
        machine.begin([StepSketch(tool, "", optional=False, needs=False) for tool in tools], "", set())
        try:
            yield machine
        finally:
            machine.teardown()


def until(machine: EffectMachine, process: Process, label: str) -> None:
    """Have a process go on until this operation is its next."""
    while not process.gates or process.gates[0].label != label:
        assert machine.go_on(process), f"it never comes to {label}"


def until_called(machine: EffectMachine, process: Process, calls: int) -> None:
    """Have a process go on until so many calls were sent in all."""
    while len(machine.target.sent) < calls:
        assert machine.go_on(process), "it never calls"


def to_rest(machine: EffectMachine, process: Process) -> None:
    """Have a process go on until nothing is left for it to do."""
    while machine.go_on(process):
        pass


@pytest.mark.parametrize("cause", ["bundle", "expired"])
@pytest.mark.parametrize("tool", ["lax.manual", "lax.verifiable", "lax.idempotent"])
def test_a_task_that_was_refused_has_no_effect_by_an_executor_that_stalled_before_its_first(
    tool: str, cause: str
) -> None:
    with playing(tool) as machine:
        stalled, other = machine.processes
        until(machine, stalled, "commit")
        if cause == "bundle":
            machine.outside.bundles.accepted.clear()
        else:
            CLOCK.advance(PERMIT_S)
        other.take(machine.inputs[0])
        to_rest(machine, other)
        ending = machine.outcome()
        assert ending is not None
        assert ending.status in (OutcomeStatus.REFUSED, OutcomeStatus.EXPIRED)
        to_rest(machine, stalled)
        assert machine.target.sent == []


def test_an_executor_that_is_refused_late_ends_no_task_that_another_one_carries_on() -> None:
    with playing("lax.verifiable") as machine:
        stalled, other = machine.processes
        until_called(machine, stalled, 1)
        (first,) = machine.target.sent
        machine.target.arrives(first, refuse=True)
        CLOCK.advance(TIMEOUT_S + SETTLE_S)
        other.take(machine.inputs[0])
        until_called(machine, other, 2)
        machine.target.replies(first)
        stalled.run()
        to_rest(machine, stalled)
        assert machine.outcome() is None
        to_rest(machine, other)
        machine.come_to_rest()
        ending = machine.outcome()
        assert ending is not None
        assert ending.status is OutcomeStatus.COMPLETED


def test_nobody_is_asked_about_a_call_that_may_still_arrive() -> None:
    with playing("lax.manual") as machine:
        process = machine.processes[0]
        until_called(machine, process, 1)
        (call,) = machine.target.sent
        machine.target.replies(call, lost=True)
        process.run()
        while process.gates:
            process.let(process.gates[0])
        assert call.may_arrive
        assert machine.doubt() == ""
        CLOCK.advance(TIMEOUT_S + SETTLE_S + 0.1)
        process.take(machine.inputs[0])
        to_rest(machine, process)
        assert machine.doubt() == "a"


def test_two_inputs_of_a_task_in_one_executor_take_each_other_for_no_earlier_life() -> None:
    with playing("lax.manual", "lax.manual") as machine:
        process = machine.processes[0]
        until_called(machine, process, 1)
        machine.target.arrives(machine.target.sent[0])
        machine.target.replies(machine.target.sent[0], lost=True)
        process.run()
        CLOCK.advance(TIMEOUT_S + SETTLE_S + 0.1)
        to_rest(machine, process)
        process.take(machine.inputs[0])
        to_rest(machine, process)
        machine.a_person_says_what_happened()
        word = machine.inputs[1]
        process.take(word)
        until(machine, process, "commit")
        process.let(process.gates[0])
        until(machine, process, "commit")
        process.let(process.gates[0], LOST)  # the effect is on record, and the executor does not know it yet
        (unconfirmed,) = process.gates
        process.take(machine.inputs[0])
        while others := [gate for gate in process.gates if gate is not unconfirmed and gate.label != "commit"]:
            process.let(others[0])
        held = [gate for gate in process.gates if gate is not unconfirmed]
        process.let(unconfirmed)
        while len(machine.target.sent) < 2:
            process.let(next(gate for gate in process.gates if gate not in held))
        to_rest(machine, process)
