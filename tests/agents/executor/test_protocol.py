"""The effect protocol, move by move: what is done next is a function of the plan and of what stands in the journal."""

import pytest

from agents.executor.protocol import AskPerson, Dispatch, Finish, Recover, actions_of, next_move
from mesh.records import Plan, ResultStatus
from tests.agents.executor.histories import History, plan, step

DONE, FAILED, DOUBT = ResultStatus.SUCCEEDED, ResultStatus.FAILED, ResultStatus.IN_DOUBT
TWO = plan(step("one"), step("two", "one"))
E, W = "effect", "withdrawn"

Said = tuple[str, str, int]


def written(*said: Said) -> History:
    """A journal with these records: kind or status, token, epoch."""
    history = History()
    for what, token, epoch in said:
        if what in (E, W):
            history.effect(token, epoch, withdrawn=what == W)
        else:
            history.result(token, ResultStatus(what), epoch)
    return history


def move(of: Plan, *said: Said) -> tuple[object, ...]:
    """The next move in few words."""
    match next_move(of, actions_of(written(*said).items)):
        case Dispatch(token=token, epoch=epoch):
            return ("dispatch", token, epoch)
        case Recover(token=token, effect=effect):
            return ("recover", token, effect.epoch)
        case AskPerson(token=token):
            return ("ask", token)
        case Finish(failed=failed, undone=undone, left=left):
            return ("finish", failed, undone, left)


ONE_DONE: tuple[Said, ...] = ((E, "one", 1), (DONE, "one", 1))
TWO_FAILED: tuple[Said, ...] = (*ONE_DONE, (E, "two", 1), (FAILED, "two", 1))
TABLE: list[tuple[tuple[Said, ...], tuple[object, ...]]] = [
    ((), ("dispatch", "one", 1)),
    (((E, "one", 1),), ("recover", "one", 1)),
    (((E, "one", 1), (W, "one", 1)), ("dispatch", "one", 2)),
    (((E, "one", 1), (DOUBT, "one", 1)), ("ask", "one")),
    (((E, "one", 1), (DOUBT, "one", 1), (W, "one", 1)), ("dispatch", "one", 2)),
    (((E, "one", 1), (DOUBT, "one", 1), (W, "one", 1), (E, "one", 2)), ("recover", "one", 2)),
    (((E, "one", 1), (DOUBT, "one", 1), (DONE, "one", 1)), ("dispatch", "two", 1)),
    (ONE_DONE, ("dispatch", "two", 1)),
    ((*ONE_DONE, (E, "two", 1), (DONE, "two", 1)), ("finish", "", (), ())),
    (((E, "one", 1), (FAILED, "one", 1)), ("finish", "one", (), ())),
    (TWO_FAILED, ("dispatch", "one~undo", 1)),
    ((*TWO_FAILED, (E, "one~undo", 1)), ("recover", "one~undo", 1)),
    ((*TWO_FAILED, (E, "one~undo", 1), (DOUBT, "one~undo", 1)), ("ask", "one~undo")),
    ((*TWO_FAILED, (E, "one~undo", 1), (DONE, "one~undo", 1)), ("finish", "two", ("one",), ())),
    ((*TWO_FAILED, (E, "one~undo", 1), (FAILED, "one~undo", 1)), ("finish", "two", (), ("one",))),
    # An executor that was taken for dead tells of its own epoch: a failure says nothing of the later call.
    (((E, "one", 1), (E, "one", 2), (FAILED, "one", 1)), ("recover", "one", 2)),
    (((E, "one", 1), (FAILED, "one", 1), (E, "one", 2)), ("recover", "one", 2)),
    # A success is one, whichever epoch brought it: the key is the same.
    (((E, "one", 1), (E, "one", 2), (DONE, "one", 1)), ("dispatch", "two", 1)),
]


@pytest.mark.parametrize(("said", "expected"), TABLE)
def test_the_next_move_follows_from_what_stands_in_the_journal(
    said: tuple[Said, ...], expected: tuple[object, ...]
) -> None:
    assert move(TWO, *said) == expected


def test_an_optional_step_may_fail_and_takes_those_that_need_it_along_if_they_are_optional_too() -> None:
    of = plan(step("one"), step("note", optional=True), step("copy", "note", optional=True), step("two"))
    failed: tuple[Said, ...] = (*ONE_DONE, (E, "note", 1), (FAILED, "note", 1))
    assert move(of, *failed) == ("dispatch", "two", 1)
    assert move(of, *failed, (E, "two", 1), (DONE, "two", 1)) == ("finish", "", (), ())


def test_a_step_that_needs_one_that_failed_is_a_failure_itself() -> None:
    of = plan(step("one"), step("note", optional=True), step("two", "note"))
    said: tuple[Said, ...] = (*ONE_DONE, (E, "note", 1), (FAILED, "note", 1))
    assert move(of, *said) == ("dispatch", "one~undo", 1)
    assert move(of, *said, (E, "one~undo", 1), (DONE, "one~undo", 1)) == ("finish", "two", ("one",), ())


def test_what_cannot_be_undone_is_named() -> None:
    of = plan(step("one", undo=False), step("two"))
    assert move(of, *TWO_FAILED) == ("finish", "two", (), ("one",))


def test_a_dispatch_expects_the_effect_that_it_follows() -> None:
    history = written((E, "one", 1), (W, "one", 1))
    found = next_move(TWO, actions_of(history.items))
    assert isinstance(found, Dispatch)
    assert found.expected_seq == history.items[-1].seq
    assert found.key == TWO.steps[0].effect_key
