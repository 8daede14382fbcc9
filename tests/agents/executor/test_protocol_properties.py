"""What must hold of every interleaving of dispatches, crashes, redeliveries, late words and compensations.

The world of this machine has what the real one has: calls that arrive or do not, executors that stall and tell of a
call when another has taken over, people who say what happened. The moves are the executor's own.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agents.executor.protocol import (
    NOTIFY,
    UNDO,
    AskPerson,
    Dispatch,
    Finish,
    Notice,
    Recover,
    actions_of,
    next_move,
)
from mesh.records import Plan, ResultStatus
from tests.agents.executor.histories import History, plan, step

DONE, FAILED, DOUBT = ResultStatus.SUCCEEDED, ResultStatus.FAILED, ResultStatus.IN_DOUBT


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to four steps, each with needs among those before it."""
    names = "abcd"[: draw(st.integers(1, 4))]
    steps = []
    for number, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:number]), unique=True)) if number else []
        steps.append(step(name, *needs, optional=draw(st.booleans()), undo=draw(st.booleans())))
    return plan(*steps)


@dataclass
class Call:
    """A dispatch in the world: ``arrived`` once the target has it, ``gone`` once it can arrive no more."""

    token: str
    epoch: int
    arrived: bool = False
    gone: bool = False


class Executors(RuleBasedStateMachine):
    """One task, any number of executors, and a target that counts."""

    @initialize(of=plans(), told=st.sets(st.sampled_from("abcd")))
    def begin(self, of: Plan, told: set[str]) -> None:
        self.plan = of
        self.notices = [
            Notice(s.id + NOTIFY, s.id, s.call, s.effect_key + NOTIFY, "ann") for s in of.steps if s.id in told
        ]
        self.history = History()
        self.calls: list[Call] = []
        self.applied: dict[str, int] = {}
        self.undone: list[str] = []
        self.finished: Finish | None = None

    def move(self) -> Dispatch | Recover | AskPerson | Finish:
        return next_move(self.plan, actions_of(self.history.items), self.notices)

    def last(self, token: str) -> Call:
        return next(call for call in reversed(self.calls) if call.token == token)

    def dispatch(self, token: str, epoch: int) -> None:
        """Every earlier dispatch of this action is settled: it arrived and that is known, or it cannot arrive."""
        assert all(call.gone and not call.arrived for call in self.calls if call.token == token)
        assert epoch == sum(call.token == token for call in self.calls) + 1
        assert all(call.gone or call.token == token for call in self.calls), "two actions at once"
        self.history.effect(token, epoch)
        self.calls.append(Call(token, epoch))

    @rule()
    def an_executor_makes_the_next_move(self) -> None:
        """Once or, when its input comes again, as often as it comes: at the end there is nothing more to do."""
        move = self.move()
        if self.finished is not None:
            assert move == self.finished
        if isinstance(move, Dispatch):
            if move.token.endswith(UNDO):
                assert self.applied.get(move.token.removesuffix(UNDO)) == 1
            if move.token.endswith(NOTIFY):
                assert self.applied.get(move.token.removesuffix(NOTIFY)) == 1
                steps_wait = next_move(self.plan, actions_of(self.history.items))
                assert not isinstance(steps_wait, Dispatch | Recover), "work waits for a notice"
            self.dispatch(move.token, move.epoch)
        elif isinstance(move, Finish):
            self.finished = move

    @precondition(lambda self: self.finished is None and isinstance(self.move(), Recover))
    @rule()
    def the_call_arrives(self) -> None:
        call = self.last(self.move().token)  # type: ignore[union-attr]
        if not call.arrived and not call.gone:
            call.arrived = True
            self.applied[call.token] = self.applied.get(call.token, 0) + 1
            if call.token.endswith(UNDO):
                self.undone.append(call.token.removesuffix(UNDO))

    @precondition(lambda self: self.finished is None and isinstance(self.move(), Recover))
    @rule(what=st.sampled_from(("told", "refused", "lost", "asked")))
    def the_call_is_settled(self, what: str) -> None:
        """Its executor tells, or another one finds out as the tool declares."""
        call = self.last(self.move().token)  # type: ignore[union-attr]
        call.gone = True
        if what == "asked" and not call.token.endswith(NOTIFY):  # a notice is idempotent: nobody is asked of it
            self.history.result(call.token, DOUBT, call.epoch)
        elif call.arrived:
            self.history.result(call.token, DONE, call.epoch)
        elif what == "refused":
            self.history.result(call.token, FAILED, call.epoch)
        else:
            self.history.effect(call.token, call.epoch, withdrawn=True)

    @precondition(lambda self: self.finished is None and isinstance(self.move(), Recover))
    @rule(verified=st.booleans())
    def another_executor_dispatches_again(self, verified: bool) -> None:
        """The tool says that the call never arrived; the epoch before it may still tell of its failure later."""
        move = self.move()
        assert isinstance(move, Recover)
        call = self.last(move.token)
        if not call.arrived:
            call.gone = True
            self.dispatch(move.token, move.effect.epoch + 1)
            if verified:
                self.history.result(move.token, FAILED, move.effect.epoch)
                assert isinstance(self.move(), Recover), "a fenced executor's failure is no failure"

    @precondition(lambda self: self.finished is None and isinstance(self.move(), AskPerson))
    @rule()
    def a_person_says_what_happened(self) -> None:
        call = self.last(self.move().token)  # type: ignore[union-attr]
        if call.arrived:
            self.history.result(call.token, DONE, call.epoch)
        else:
            self.history.effect(call.token, call.epoch, withdrawn=True)

    @invariant()
    def no_effect_is_repeated(self) -> None:
        assert all(count == 1 for count in getattr(self, "applied", {}).values())

    @invariant()
    def steps_are_undone_in_reverse_order(self) -> None:
        order = [step.id for step in self.plan.steps] if hasattr(self, "plan") else []
        assert self.undone == sorted(self.undone, key=order.index, reverse=True) if order else True

    def teardown(self) -> None:
        """From wherever it stands, a task that meets no more trouble comes to its end, and to one of the two."""
        if not hasattr(self, "plan"):
            return
        for _ in range(9 * len(self.plan.steps) + 9):
            if self.finished is not None:
                break
            self.an_executor_makes_the_next_move()
            if self.finished is None and isinstance(self.move(), Recover):
                self.the_call_arrives()
                self.the_call_is_settled("told")
            elif self.finished is None and isinstance(self.move(), AskPerson):
                self.a_person_says_what_happened()
        assert self.finished is not None
        self.check_end(self.finished)

    def check_end(self, end: Finish) -> None:
        """Everything that took effect stands, was undone, or is named."""
        steps = {token for token in self.applied if not token.endswith((UNDO, NOTIFY))}
        told = {token.removesuffix(NOTIFY) for token in self.applied if token.endswith(NOTIFY)}
        unmet = {text.partition("of step ")[2].partition(":")[0] for text in end.unmet}
        assert told | unmet == steps & {notice.step for notice in self.notices}
        assert not told & unmet
        if end.failed:
            assert steps == {*end.undone, *end.left}
            assert set(end.undone) == set(self.undone)
        else:
            assert self.undone == []
            assert {step.id for step in self.plan.steps if not step.optional} <= steps


TestExecutors = Executors.TestCase
TestExecutors.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
