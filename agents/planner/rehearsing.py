"""Understanding a text from the first question to the plan in one go, with nothing on record: for cases and replays.

The rule: it is the planner's own code that asks and judges; only who answers is another.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from agents.planner.place import FIRST
from agents.planner.reading import Asked
from agents.planner.texts import Texts
from mesh.errors import TerminalError
from mesh.inference import Completion, CompletionStatus, Prompt
from mesh.messages import Reply
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
        prompts = [output for output in outputs if isinstance(output, Prompt)]
        answers = await asyncio.gather(*(answer(prompt) for prompt in prompts))
        exchange |= {prompt.name: Asked(prompt, said) for prompt, said in zip(prompts, answers, strict=True)}
        if not outputs:
            break
    raise NoPlanError(f"task {context.header.task_id} came to no plan in {len(exchange)} questions", exchange)


def completion_of(prompt: Prompt, model: str, reply: Reply) -> Completion:
    """What a model said, as the record that it would be."""
    if reply.declined:
        return unanswered(prompt, model, CompletionStatus.DECLINED, reply.problem)
    if reply.problem:
        return unanswered(prompt, model, CompletionStatus.UNAVAILABLE, reply.problem)
    completion = unanswered(prompt, model, CompletionStatus.ANSWERED, "")
    return msgspec.structs.replace(completion, output=reply.output)


def unanswered(prompt: Prompt, model: str, status: CompletionStatus, reason: str) -> Completion:
    """That there is no answer, and why."""
    return Completion(header=prompt.header, name=prompt.name, status=status, model=model, reason=reason)
