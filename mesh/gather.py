"""Reads of tasks' records that are asked for at the same moment, made in one request.

The rule: an answer holds what stood in the journal at some moment after the question was asked.
"""

import asyncio
from collections.abc import Sequence

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.errors import TooManyResultsError

# A task has some ten subjects, one with the longest plan some hundred; the server answers with at most 1,024.
_TASKS_MAX = 32


class _Question:
    """The filter somebody asks for: one subject of a task, or all of them."""

    __slots__ = ("answer", "flt", "task")

    def __init__(self, flt: str) -> None:
        self.flt = flt
        self.task = flt.split(".")[3]
        self.answer: asyncio.Future[list[StoredMessage]] = asyncio.get_running_loop().create_future()


class Gatherer:
    """Asks for the last messages of tasks' subjects; while one request is under way, the next questions gather."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None

    async def last_of_each(self, flt: str) -> list[StoredMessage]:
        """The last message of each subject of one task that matches, in stream order.

        ``flt`` is ``task.<kind or *>.<domain or *>.<task id>.<step or *>``. Raises ``BusUnavailableError``.
        """
        question = _Question(flt)
        self._waiting.append(question)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="gatherer")
        return await question.answer

    async def _ask(self) -> None:
        while self._waiting:
            questions, self._waiting = self._waiting[:_TASKS_MAX], self._waiting[_TASKS_MAX:]
            try:
                await self._answer(questions)
            except Exception as error:  # noqa: BLE001 - whoever asked must be told, whatever it was
                for question in questions:
                    if not question.answer.done():
                        question.answer.set_exception(error)

    async def _answer(self, questions: Sequence[_Question]) -> None:
        try:
            found = await self._bus.last_of_each(subjects.JOURNAL, list({question.flt for question in questions}))
        except TooManyResultsError:
            if len(questions) == 1:
                raise
            for question in questions:
                await self._answer([question])
            return
        by_task: dict[str, list[StoredMessage]] = {}
        for message in found:
            by_task.setdefault(message.subject.split(".")[3], []).append(message)
        for question in questions:
            if not question.answer.done():
                messages = by_task.get(question.task, [])
                question.answer.set_result([item for item in messages if subjects.matches(question.flt, item.subject)])
