"""People's corrections: on record, once, as a lesson and as a proposal; never of something unknown."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from agents.learner.corrections import Corrections, digest8
from mesh import service, subjects
from mesh.bus import Bus
from mesh.corrections import CorrectAnswer, CorrectRequest
from mesh.errors import TerminalError
from mesh.journal import Journal
from mesh.learned import ChangeKind, LearnedChange
from mesh.records import Lesson
from mesh.service import ServiceError, serving
from tests.agents.learner.endings import end_tasks, journal_of, opened_proposals, outcome, plan_task, proposed
from tests.memory_service.running_memory import Site, recall

SAYS = CorrectRequest(task_id="one", text="Refund to the gift card, not to the credit card", person="ada")


@pytest.fixture
async def journal(site: Site) -> AsyncIterator[Journal]:
    """The journal as the learner writes it."""
    async with journal_of(site, "learner") as running:
        yield running


@pytest.fixture
async def corrections(site: Site, journal: Journal, learner: Bus) -> AsyncIterator[Corrections]:
    """The learner's service over a task that ended."""
    await plan_task(site, "one")
    await end_tasks(site, [outcome("one")])
    async with AsyncExitStack() as stack:
        proposals = await stack.enter_async_context(opened_proposals(site, learner))
        found = Corrections(journal, proposals, "learner/1")
        await stack.enter_async_context(serving(learner, "learner", {"correct": (CorrectRequest, found.correct)}))
        await learner.last(subjects.JOURNAL, "task.none.none.none.none")  # goes behind the subscription
        yield found


async def _lessons(journal: Journal) -> list[Lesson]:
    return [item.record for item in await journal.task("one") if isinstance(item.record, Lesson)]


async def test_a_correction_is_a_lesson_and_only_the_proposal_of_a_fact(
    site: Site, corrections: Corrections, journal: Journal, operator: Bus
) -> None:
    async with site.memory():
        answer = await service.ask(operator, "learner", "correct", SAYS, CorrectAnswer)
        assert await recall(operator, "gift card", subject="playbook/retail.return") == []
    (lesson,) = await _lessons(journal)
    assert (lesson.name, lesson.correction, lesson.person) == (f"correction-{digest8(SAYS.text)}", SAYS.text, "ada")
    assert (lesson.playbook, lesson.status, lesson.tools) == ("retail.return", "completed", ("shop.return",))
    assert lesson.header.causation.subject == "task.outcome.retail.one.-"
    (made,) = await proposed(site, operator)
    assert (made.id, made.person, made.records) == (answer.proposal, "ada", (subjects.of(lesson),))
    assert made.change == LearnedChange(
        kind=ChangeKind.FACT,
        domain="retail",
        target="playbook/retail.return",
        parameter=f"correction/one/{digest8(SAYS.text)}",
        value=SAYS.text,
    )


async def test_the_same_words_are_one_correction_and_other_words_another(
    site: Site, corrections: Corrections, journal: Journal, operator: Bus
) -> None:
    other = CorrectRequest(task_id="one", text="And tell the customer", person="bob")
    padded = CorrectRequest(task_id="one", text=f"  {SAYS.text}\n", person="bob")
    answers = [await corrections.correct(request) for request in (SAYS, SAYS, padded, other)]
    assert len({answer.proposal for answer in answers}) == 2
    assert len(await _lessons(journal)) == 2
    assert [made.person for made in await proposed(site, operator)] == ["ada", "bob"], "who said it first stands"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (CorrectRequest(task_id="two", text="text", person="ada"), "no task 'two' in the journal"),
        (CorrectRequest(task_id="*", text="text", person="ada"), r"no task '\*'"),
        (CorrectRequest(task_id="one", text=" ", person="ada"), "is empty"),
        (CorrectRequest(task_id="one", text="text", person=""), "names no person"),
        (CorrectRequest(task_id="one", text="x" * 8193, person="ada"), "8193 bytes"),
    ],
)
async def test_a_correction_of_nothing_or_by_nobody_is_refused_with_the_reason(
    corrections: Corrections, operator: Bus, journal: Journal, request_: CorrectRequest, reason: str
) -> None:
    with pytest.raises(ServiceError, match=reason):
        await service.ask(operator, "learner", "correct", request_, CorrectAnswer)
    assert await _lessons(journal) == []


async def test_a_task_without_a_playbook_cannot_be_corrected(site: Site, corrections: Corrections) -> None:
    await plan_task(site, "bare", playbook="")
    with pytest.raises(TerminalError, match="no plan of a playbook"):
        await corrections.correct(CorrectRequest(task_id="bare", text="text", person="ada"))
