"""Understanding a text from the first question to the plan in one go, with nothing on record: for cases and replays.

The rule: it is the planner's own code that asks and judges; only who answers is another.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agents.planner.place import FIRST
from agents.planner.reading import Asked
from agents.planner.texts import Texts
from mesh.errors import TerminalError
from mesh.inference import Completion, Prompt
from mesh.records import Context, Plan

_ROUNDS_MAX = 32

Answer = Callable[[Prompt], Awaitable[Completion]]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The plan, and the questions and answers that led to it, by name."""

    plan: Plan
    exchange: dict[str, Asked]


class NoPlanError(TerminalError):
    """The questions led to no plan; ``exchange`` is how far they led."""

    def __init__(self, message: str, exchange: dict[str, Asked]) -> None:
        super().__init__(message)
        self.exchange = exchange


async def rehearse(texts: Texts, context: Context, answer: Answer) -> Rehearsed:
    """Ask until there is a plan; raises ``NoPlanError`` where something needed is not on record, or there is no end."""
    exchange: dict[str, Asked] = {}
    for _ in range(_ROUNDS_MAX):
        try:
            outputs = await texts.next(context, context.header, FIRST, exchange)
        except TerminalError as error:
            raise NoPlanError(str(error), exchange) from error
        for output in outputs:
            if isinstance(output, Plan):
                return Rehearsed(output, exchange)
            exchange[output.name] = Asked(output, await answer(output))
        if not outputs:
            break
    raise NoPlanError(f"task {context.header.task_id} came to no plan in {len(exchange)} questions", exchange)
