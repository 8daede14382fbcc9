"""The learner stage: one outcome in, one lesson out."""

from agents.learner.ends import count_times
from mesh import tracing
from mesh.errors import TerminalError
from mesh.journal import Write
from mesh.records import WHOLE_TASK, Lesson, Outcome
from mesh.runtime import Outputs, Work


async def learn(work: Work) -> Outputs:
    """The lesson of this outcome; raises ``TerminalError`` for an input that is none."""
    ending = work.record()
    if not isinstance(ending, Outcome):
        raise TerminalError(f"{work.subject} at {work.seq} holds a {ending.kind}, not an outcome")
    count_times(ending)
    return (Write(lesson_of(work, ending)),)


def lesson_of(work: Work, ending: Outcome) -> Lesson:
    """What the task teaches by itself: how its playbook and tools ended."""
    head = ending.header
    return Lesson(
        header=work.header(head.task_id, head.domain, tracing.child(head.traceparent, "lesson")),
        name=WHOLE_TASK,
        playbook=ending.playbook,
        status=ending.status,
        tools=ending.tools,
    )
