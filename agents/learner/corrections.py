"""People's corrections of what a task did: a lesson on record first, then a fact that the playbook can recall.

The rule: the same words on the same task are one correction, however often they come.
"""

from collections.abc import Sequence

from mesh import service, subjects, tracing
from mesh.bus import Bus
from mesh.canonical import token
from mesh.clock import now
from mesh.corrections import CorrectAnswer, CorrectRequest
from mesh.errors import BusUnavailableError, ConflictError, RetryableError, TerminalError
from mesh.facts import FactEvent, Provenance, RememberRequest
from mesh.journal import Journal, Stored, Write
from mesh.records import Causation, Header, Lesson, Outcome, Plan

TEXT_BYTES = 8 * 1024  # what memory keeps of one fact
PERSON_BYTES = 256
_MEMORY_S = 2.0  # under the 3 s that the asker waits, so that the reason reaches it


class Corrections:
    """Takes corrections."""

    def __init__(self, journal: Journal, bus: Bus, writer: str) -> None:
        self._journal = journal
        self._bus = bus
        self._writer = writer

    async def correct(self, request: CorrectRequest) -> CorrectAnswer:
        """Put the correction on record and into memory.

        Raises ``TerminalError`` for a task that is unknown or has no playbook, and for an empty text;
        ``RetryableError`` when memory is away: the lesson is on record then, and asking again completes it.
        """
        check(request)
        items = await self._journal.task(request.task_id)
        lesson, seq = await self._record(lesson_of(request, items, self._writer))
        try:
            fact = await service.ask(self._bus, "memory", "remember", self._fact(lesson, seq), FactEvent, _MEMORY_S)
        except BusUnavailableError as error:
            raise RetryableError(
                f"the correction of task {request.task_id} is on record, but memory does not answer ({error}): "
                "say it again when memory is back"
            ) from error
        return CorrectAnswer(task_id=request.task_id, fact_id=fact.id)

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

    def _fact(self, lesson: Lesson, seq: int) -> RememberRequest:
        task_id = lesson.header.task_id
        return RememberRequest(
            scope=f"playbook/{lesson.playbook}",
            key=f"correction/{task_id}/{digest8(lesson.correction)}",
            text=lesson.correction,
            provenance=Provenance(
                writer=self._writer,
                source=f"correction of task {task_id}",
                causation=Causation(stream=subjects.JOURNAL, subject=subjects.of(lesson), seq=seq),
                person=lesson.person,
            ),
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
