"""The effect protocol under every interleaving of two executors, the journal, their disks, the network and a person.

The executors are the real ones. What is around them does one thing at a time, in an order that hypothesis picks, and
at each point it can be lost, come late, or be the last thing that a process saw.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agents.executor.protocol import NOTIFY, UNDO, actions_of
from mesh import subjects
from mesh.canonical import effect_key
from mesh.journal import Write, message_of
from mesh.records import AnyRecord, Approval, Decision, Effect, Outcome, OutcomeStatus, Phase, Result, ResultStatus
from mesh.tools import Recovery
from tests.agents.executor import simulated_task as tasks
from tests.agents.executor.simulated_executor import Bundles, Input, Outside, Process
from tests.agents.executor.simulated_journal import LOST, Entry, Store
from tests.agents.executor.simulated_target import SETTLE_S, TIMEOUT_S, TOOLS, Sent, Target
from tests.agents.executor.simulated_task import BUNDLE, FLAWS, PERMIT_S, TASK, StepSketch
from tests.agents.executor.virtual_time import CLOCK

TOOL = st.sampled_from(sorted(TOOLS))
STEPS = st.builds(
    StepSketch, tool=TOOL, undo=st.just("") | TOOL, optional=st.booleans(), needs=st.booleans(), notify=st.booleans()
)
FLAW = st.integers(0, 9).flatmap(lambda n: st.sampled_from(sorted(FLAWS)) if n == 9 else st.just(""))
# What may happen next, and how often beside the others; what of it is trouble, by a name that turns it on.
WEIGHTS = {
    "an_executor_goes_on": 6,
    "an_operation_goes_through": 4,
    "a_call_arrives": 3,
    "a_call_is_answered": 2,
    "an_input_is_delivered": 2,
    "time_passes": 2,
    "an_executor_dies": 2,
    "an_executor_looks_at_the_clock": 1,
    "a_handler_takes_too_long": 1,
    "a_dead_executors_commit_arrives": 1,
    "a_person_says_what_happened": 1,
    "the_bundle_is_withdrawn": 1,
    "another_decision_is_made": 1,
}
EVENTS = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
TROUBLES = {
    "time_passes": "time",
    "an_executor_dies": "crash",
    "a_handler_takes_too_long": "deadline",
    "the_bundle_is_withdrawn": "bundle",
    "another_decision_is_made": "decision",
}
MORE_TROUBLES = ("disk", "network", "refusal", "lost")
NOTHING_DONE = (OutcomeStatus.REFUSED, OutcomeStatus.EXPIRED)
ROUNDS = 60


class EffectMachine(RuleBasedStateMachine):
    """One task, two executors, and a target that counts."""

    @initialize(
        sketches=st.lists(STEPS, min_size=1, max_size=3),
        flaw=FLAW,
        troubles=st.sets(st.sampled_from((*TROUBLES.values(), *MORE_TROUBLES)), min_size=2, max_size=6),
    )
    def begin(self, sketches: Sequence[StepSketch], flaw: str, troubles: set[str]) -> None:
        """A decision is on record and delivered. Few kinds of trouble at once show more than all of them."""
        CLOCK.reset()
        self.troubles = troubles
        self.faults: list[str] = []
        self.trace = [f"{sketches}, {flaw or 'in order'}, {sorted(troubles)}"]
        self.inputs: list[Input] = []
        self.genuine: set[int] = set()
        self.store, self.target = Store(), Target()
        self.outside = Outside(self.store, self.target, tasks.trust(), Bundles({BUNDLE}))
        self.plan = tasks.plan(sketches)
        self.notified = [step.id for step, sketch in zip(self.plan.steps, sketches, strict=True) if sketch.notify]
        self.write(tasks.context())
        self.write(self.plan)
        self.decide(Phase.PROPOSE, flaw)
        self.store.watch = self.stored
        self.target.on_sent, self.target.on_applied = self.sent, self.applied
        self.processes = [Process(number, self.outside) for number in (0, 1)]
        self.processes[0].take(self.inputs[0])

    @rule(pick=st.integers(0, len(EVENTS) * 32 - 1))
    def happens(self, pick: int) -> None:
        """One rule and one draw for all: draws cost more than events, and left-out rules would leave little to see."""
        pick, number = divmod(pick, 2)
        pick, place = divmod(pick, 4)
        pick, way = divmod(pick, 4)
        what = EVENTS[pick]
        if TROUBLES.get(what, "") not in {"", *self.troubles}:
            what = EVENTS[0]
        self.trace.append(f"{what} {number} {place} {way}")
        getattr(self, what)(number, place, way)

    # What goes on

    def an_executor_goes_on(self, number: int, place: int, way: int) -> None:
        if not self.processes[number].handling:
            self.an_input_is_delivered(number, place, way)
        for _ in range(1 + way):
            self.go_on(self.processes[number])

    def an_operation_goes_through(self, number: int, place: int, way: int) -> None:
        """In any order; and with its answer lost, so that it is tried again."""
        process = self.processes[number]
        if gates := process.gates:
            process.let(gates[place % len(gates)], LOST if way == 0 and "lost" in self.troubles else "")

    def an_executor_looks_at_the_clock(self, number: int, place: int, way: int) -> None:
        self.processes[number].run()

    def a_call_arrives(self, number: int, place: int, way: int) -> None:
        if calls := [call for call in self.target.sent if call.may_arrive]:
            self.target.arrives(calls[place % len(calls)], refuse=way > 1 and "refusal" in self.troubles)

    def a_call_is_answered(self, number: int, place: int, way: int) -> None:
        """Or its connection breaks, before it arrived or after."""
        if calls := [call for call in self.target.sent if not call.reply.done()]:
            self.target.replies(calls[place % len(calls)], lost=way > 1 and "network" in self.troubles)

    def time_passes(self, number: int, place: int, way: int) -> None:
        CLOCK.advance((0.3, TIMEOUT_S / 2, TIMEOUT_S + SETTLE_S + 0.1, PERMIT_S)[way])

    def an_input_is_delivered(self, number: int, place: int, way: int) -> None:
        """For the first time, or again because an acknowledgement was lost or an executor was taken for dead."""
        process, item = self.processes[number], self.inputs[place % len(self.inputs)]
        if process.is_ready and item not in process.handling:
            process.take(item)

    def an_executor_dies(self, number: int, place: int, way: int) -> None:
        """What it was about to commit is lost, or on its way; its checkpoint stays, or is lost too."""
        process = self.processes[number]
        if process.is_alive:
            process.crash(in_network=bool(way % 2))
            if way > 1 and "disk" in self.troubles:
                process.lose_checkpoint()

    def a_handler_takes_too_long(self, number: int, place: int, way: int) -> None:
        process = self.processes[number]
        if handled := list(process.handling):
            process.give_up(handled[place % len(handled)])

    def a_dead_executors_commit_arrives(self, number: int, place: int, way: int) -> None:
        if ghosts := self.outside.ghosts:
            ghosts.pop(place % len(ghosts))()

    def a_person_says_what_happened(self, number: int = 0, place: int = 0, way: int = 0) -> None:
        """Having looked at the target, now."""
        if token := self.doubt():
            key = effect_key(TASK, token)
            stands = actions_of(self.store.standing()).get(token).ended(ResultStatus.IN_DOUBT)
            if stands and any(call.key == key and call.may_arrive for call in self.target.sent):
                self.faults.append(f"a person is asked of {token} while a call may still arrive")
            self.write(tasks.word(self.plan, token, happened=bool(self.target.applied.get(key))), deliver=True)

    def the_bundle_is_withdrawn(self, number: int, place: int, way: int) -> None:
        self.outside.bundles.accepted.clear()

    def another_decision_is_made(self, number: int, place: int, way: int) -> None:
        if not self.store.all(subjects.record("decision", "till", TASK, str(Phase.EXECUTE))):
            self.decide(Phase.EXECUTE, sorted(FLAWS)[place] if way == 0 else "")

    # What must hold

    @invariant()
    def nothing_forbidden_happened(self) -> None:
        for process in getattr(self, "processes", ()):
            self.faults += [f"executor {process.number} failed: {error!r}" for error in process.errors]
        self.require(not getattr(self, "faults", []), lambda: "; ".join(self.faults))

    def sent(self, sent: Sent) -> None:
        """A call leaves an executor."""
        self.trace.append(f"sent {sent.key} epoch {sent.epoch} by {sent.process}")
        token = sent.key.removeprefix(effect_key(TASK, ""))
        effects = [entry.record for entry in self.store.all(subjects.record("effect", "till", TASK, token))]
        mine = [e for e in effects if isinstance(e, Effect) and e.epoch == sent.epoch and not e.withdrawn]
        if not mine or mine[0].key != sent.key:
            self.faults.append(f"{token} is called without its effect on record")
        elif mine[0].header.causation.seq not in self.genuine:
            self.faults.append(f"{token} is called without a permit")
        if sent.recovery is Recovery.IDEMPOTENT:
            return
        before = [call for call in self.target.sent if call.key == sent.key and call is not sent]
        if any(call.may_arrive for call in before) or self.target.applied.get(sent.key):
            self.faults.append(f"{token} ({sent.recovery}) is called again though a call of it is not settled")

    def applied(self, key: str) -> None:
        """A call takes effect."""
        self.trace.append(f"applied {key}")
        if self.target.applied[key] > 1:
            self.faults.append(f"{key} took effect twice")
        if self.outcome() is not None:
            self.faults.append(f"{key} took effect after its task had ended")
        if key.endswith(NOTIFY) and not self.target.applied.get(key.removesuffix(NOTIFY)):
            self.faults.append(f"{key} tells of what did not happen")
        if key.endswith(UNDO) and not self.target.applied.get(key.removesuffix(UNDO)):
            self.faults.append(f"{key} undoes nothing")

    def stored(self, entry: Entry) -> None:
        """A record is written."""
        self.trace.append(f"stored {entry.subject} at {entry.seq}: {entry.record}")
        if isinstance(entry.record, Effect) and not (entry.record.withdrawn or entry.record.closed):
            epochs = [e.record.epoch for e in self.store.all(entry.subject)[:-1] if isinstance(e.record, Effect)]
            if entry.record.epoch != max(epochs, default=0) + 1:
                self.faults.append(f"epoch {entry.record.epoch} of {entry.record.step} follows {epochs}")
        if isinstance(entry.record, Outcome):
            if len(self.store.all(entry.subject)) > 1:
                self.faults.append("a task has two outcomes")
            self.check_outcome(entry.record)

    def check_outcome(self, ending: Outcome) -> None:
        """An outcome says what is so in the world."""
        count = Counter(self.target.applied)
        done = {step.id for step in self.plan.steps if count[step.effect_key]}
        undone = {step.id for step in self.plan.steps if count[step.effect_key + UNDO]}
        needed = {step.id for step in self.plan.steps if not step.optional}
        match ending.status:
            case OutcomeStatus.COMPLETED:
                right = needed <= done and not undone
            case OutcomeStatus.COMPENSATED:
                right = done == undone
            case OutcomeStatus.FAILED:
                left = ending.reason.partition("not compensated: ")[2].partition("; obligation not met")[0]
                right = undone <= done and done - undone == set(filter(None, left.split(", ")))
            case _:
                right = ending.status in NOTHING_DONE and not done
        if not right:
            self.faults.append(f"{ending.status} ({ending.reason}), but done {done}, undone {undone}")
        for name in done & set(self.notified):
            key = effect_key(TASK, name + NOTIFY)
            if not count[key] and not (key in self.target.refused and f"not told of step {name}" in ending.reason):
                self.faults.append(f"{ending.status} ({ending.reason}), but nobody was told of {name}")

    def teardown(self) -> None:
        """With no more trouble everything comes to rest, and the task to its end."""
        if not hasattr(self, "processes"):
            return
        try:
            self.come_to_rest()
            self.nothing_forbidden_happened()
            ending = self.outcome()
            self.require(ending is not None, lambda: "the task has no outcome")
            assert ending is not None
            for call in self.target.under_way():
                self.target.arrives(call)
            self.check_outcome(ending)
            self.nothing_forbidden_happened()
        finally:
            for process in self.processes:
                process.close()

    # How

    def come_to_rest(self) -> None:
        """Let all that waits go on, give what is not acknowledged, have a person settle what is in doubt."""
        while self.outside.ghosts:
            self.outside.ghosts.pop()()
        for number in range(ROUNDS):
            self.nothing_forbidden_happened()
            for process in self.processes:
                for _ in range(ROUNDS):
                    if not self.go_on(process):
                        break
            waiting = [item for item in self.inputs if not item.acked]
            if waiting:
                item = min(waiting, key=lambda item: item.due)
                CLOCK.advance(max(0.0, item.due - CLOCK.seconds))
                self.processes[number % 2].take(item)
            elif self.doubt():
                CLOCK.advance(TIMEOUT_S)
                self.a_person_says_what_happened()
            else:
                return
        self.require(False, lambda: "it never comes to rest")

    def require(self, condition: bool, otherwise: Callable[[], str]) -> None:
        """Fail with all that happened, in order."""
        if not condition:
            raise AssertionError("\n  ".join((otherwise(), *self.trace)))

    def go_on(self, process: Process) -> bool:
        """The next thing that a process waits for happens, and goes well; whether there was one."""
        calls = [call for call in self.target.under_way(process.number) if not call.reply.done()]
        if not process.is_alive:
            process.start()
        elif gates := process.gates:
            process.let(gates[0])
        elif calls:
            self.target.arrives(calls[0])
            self.target.replies(calls[0])
            process.run()
        elif process.wait_s is not None:
            CLOCK.advance(process.wait_s)
            process.run()
        else:
            return False
        return True

    def decide(self, phase: Phase, flaw: str) -> None:
        item = self.write(tasks.decision(self.plan, phase, flaw, self.notified), deliver=True)
        if not flaw:
            self.genuine.add(item.seq)

    def write(self, record: AnyRecord, *, deliver: bool = False) -> Input:
        """A record of another stage, over the one that stands there."""
        message = message_of(Write(record))
        stands = self.store.last(message.subject)
        seqs = self.store.put([message_of(Write(record, stands.seq if stands else 0))])
        assert seqs is not None
        item = Input(seqs[0], message.subject, message.data)
        if deliver:
            assert isinstance(record, Decision | Approval)
            self.inputs.append(item)
        return item

    def outcome(self) -> Outcome | None:
        entry = self.store.last(subjects.record("outcome", "till", TASK, "-"))
        return entry.record if entry and isinstance(entry.record, Outcome) else None

    def doubt(self) -> str:
        """What waits for a person who has not spoken yet: by the results alone, as policy lists it."""
        if self.outcome() is not None:
            return ""
        for item in self.store.standing():
            if isinstance(item.record, Result) and item.record.status is ResultStatus.IN_DOUBT:
                said = self.store.last(subjects.record("approval", "till", TASK, f"{item.record.step}~resolve"))
                if said is None or said.seq < item.seq:
                    return item.record.step
        return ""


@dataclass(frozen=True)
class Focus:
    """What lives are drawn from; few tools and troubles show a rare order of events sooner."""

    tools: Sequence[str] = tuple(sorted(TOOLS))
    troubles: Sequence[str] = (*TROUBLES.values(), *MORE_TROUBLES)
    least: int = 2


ANY = Focus()


def wander(seed: int, focus: Focus = ANY) -> None:
    """One life of the machine, drawn by chance: several times as fast as hypothesis draws, and cannot be shrunk."""
    chance, telling, machine = Random(seed), Random(-1 - seed), EffectMachine()
    sketches = [
        StepSketch(
            chance.choice(focus.tools),
            chance.choice(("", *focus.tools)),
            chance.random() < 0.3,
            chance.random() < 0.5,
            telling.random() < 0.3,
        )
        for _ in range(chance.randint(1, 3))
    ]
    flaw = chance.choice(sorted(FLAWS)) if chance.random() < 0.05 else ""
    most = min(6, len(focus.troubles))
    machine.begin(sketches, flaw, set(chance.sample(focus.troubles, chance.randint(min(focus.least, most), most))))
    try:
        for _ in range(chance.randint(5, 60)):
            machine.happens(chance.randrange(len(EVENTS) * 32))
            machine.nothing_forbidden_happened()
    finally:
        machine.teardown()
