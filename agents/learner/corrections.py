"""People's corrections of what a task did: a lesson on record first, then the proposal to remember it.

The rule: the same words on the same task are one correction, however often they come; and nothing is remembered of them
until somebody with the role for it has approved that.
"""

from collections.abc import Sequence

from agents.learner.proposals import LESSON, Proposals
from mesh import subjects, tracing
from mesh.canonical import token
from mesh.clock import now
from mesh.corrections import CorrectAnswer, CorrectRequest
from mesh.errors import ConflictError, TerminalError
from mesh.journal import Journal, Stored, Write
from mesh.learned import ChangeKind, Count, LearnedChange, Proposal
from mesh.records import Causation, Header, Lesson, Outcome, Plan

TEXT_BYTES = 8 * 1024  # what memory keeps of one fact
PERSON_BYTES = 256


class Corrections:
    """Takes corrections."""

    def __init__(self, journal: Journal, proposals: Proposals, writer: str) -> None:
        self._journal = journal
        self._proposals = proposals
        self._writer = writer

    async def correct(self, request: CorrectRequest) -> CorrectAnswer:
        """Put the correction on record, and propose to remember it.

        Raises ``TerminalError`` for a task that is unknown or has no playbook, and for an empty text.
        """
        check(request)
        items = await self._journal.task(request.task_id)
        lesson, seq = await self._record(lesson_of(request, items, self._writer))
        return CorrectAnswer(task_id=request.task_id, proposal=await self._proposals.propose(proposal_of(lesson, seq)))

    async def _record(self, lesson: Lesson) -> tuple[Lesson, int]:
        """The lesson as it stands, and its sequence: ours, or the one that said the same before."""
        try:
            (seq,) = await self._journal.commit(Write(lesson))
        except ConflictError:
            stands = await self._journal.record(subjects.of(lesson))
            if stands is None or not isinstance(stands.record, Lesson):
                raise
            if stands.record.correction != lesson.correction:
                raise
            return stands.record, stands.seq
        return lesson, seq


def proposal_of(lesson: Lesson, seq: int) -> Proposal:
    """The proposal to remember a correction, a function of its lesson."""
    task_id = lesson.header.task_id
    change = LearnedChange(
        kind=ChangeKind.FACT,
        domain=lesson.header.domain,
        target=f"playbook/{lesson.playbook}",
        parameter=f"correction/{task_id}/{digest8(lesson.correction)}",
        value=lesson.correction,
    )
    return Proposal(
        change=change,
        why=f"correction of task {task_id}",
        gain="the next plan of the playbook recalls it",
        evidence=(Count(name=LESSON, value=seq),),
        records=(subjects.of(lesson),),
        made_at=lesson.header.at,
        version=1,
        person=lesson.person,
    )


def check(request: CorrectRequest) -> None:
    """Raises ``TerminalError`` unless somebody says something about something."""
    try:
        subjects.record("lesson", "any", request.task_id, "any")  # no wildcard may stand for a task
    except ValueError as error:
        raise TerminalError(f"no task {request.task_id!r}: {error}") from error
    if not request.text.strip():
        raise TerminalError(f"the correction of task {request.task_id} is empty: say what should have been done")
    if not request.person.strip():
        raise TerminalError(f"the correction of task {request.task_id} names no person: say who you are")
    for name, text, limit in (("text", request.text, TEXT_BYTES), ("person", request.person, PERSON_BYTES)):
        if len(text.encode()) > limit:
            raise TerminalError(f"the {name} has {len(text.encode())} bytes, more than {limit}: shorten it")


def lesson_of(request: CorrectRequest, items: Sequence[Stored], writer: str) -> Lesson:
    """The lesson that a correction is; raises ``TerminalError`` for a task that is unknown or has no playbook."""
    if not items:
        raise TerminalError(f"no task {request.task_id!r} in the journal: look it up with `workmesh tasks`")
    planned = next((item for item in items if isinstance(item.record, Plan) and item.record.playbook), None)
    if planned is None or not isinstance(planned.record, Plan):
        raise TerminalError(f"task {request.task_id} has no plan of a playbook: there is nothing to correct yet")
    ended = next((item for item in items if isinstance(item.record, Outcome)), None)
    cause = ended or planned
    head = cause.record.header
    text = request.text.strip()
    return Lesson(
        header=Header(
            task_id=head.task_id,
            domain=head.domain,
            causation=Causation(stream=subjects.JOURNAL, subject=cause.subject, seq=cause.seq),
            writer=writer,
            at=now(),
            traceparent=tracing.child(head.traceparent, "correction", digest8(text)),
        ),
        name=f"correction-{digest8(text)}",
        playbook=planned.record.playbook,
        status=ended.record.status if ended and isinstance(ended.record, Outcome) else "",
        tools=tuple(step.call.tool for step in planned.record.steps),
        correction=text,
        person=request.person.strip(),
    )


def digest8(text: str) -> str:
    """Eight characters that stand for the words of a correction."""
    return token("correction", text, bits=40)
