"""Questions to models as records: what is known of a task, and what of it a model gets to see.

The rule: a record holds all that will be sent, and all that it rests on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from agents.planner.place import Place
from agents.planner.planning import Inputs, citations_of, recalled_of
from agents.planner.prompts import PromptFile, Prompts
from agents.planner.reading import MISTAKE, Ask, Classified, Exchange, prefix_of
from agents.planner.routing import Need, route
from mesh.facts import RecalledFact
from mesh.inference import Prompt
from mesh.record import Citation, Header, Json, Reading
from mesh.records import Context, Plan, Usage


@dataclass(frozen=True, slots=True)
class Task:
    """A text on its way: what is known of it."""

    context: Context
    header: Header
    place: Place
    prompts: Prompts
    exchange: Exchange
    inputs: Inputs
    within_s: float

    @property
    def answer_by(self) -> datetime:
        """When an answer that somebody waits for is of no use any more."""
        return self.header.at + timedelta(seconds=self.within_s)

    @property
    def usage(self) -> tuple[Usage, ...]:
        """What its answers cost."""
        done = (asked.completion for asked in self.exchange.values())
        return tuple(use for completion in done if completion is not None for use in completion.usage)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known for a question beside the text: what was read, and what memory gave."""

    readings: tuple[Reading, ...] = ()
    recalled: tuple[RecalledFact, ...] = ()

    @classmethod
    def of(cls, prompt: Prompt) -> "Known":
        """What was known for a question that was asked."""
        return cls(prompt.readings, recalled_of(prompt))


def question(
    task: Task,
    ask: Ask,
    file: PromptFile,
    schema: Json,
    need: Need,
    known: Known,
    more: Mapping[str, Any] | None = None,
) -> Prompt:
    """The question as a record: all that will be sent."""
    variables = Inputs(task.context, known.readings, known.recalled).variables
    route_taken = route(ask.role, need, ask.sample)
    shown: dict[str, Any] = {**(more or {})}
    if known.readings:
        shown["records"] = {reading.name: msgspec.json.decode(reading.answer) for reading in known.readings}
    if known.recalled:
        shown["facts"] = [_shown_fact(fact) for fact in known.recalled]
    if ask.mistake:
        shown[MISTAKE] = ask.mistake
    return Prompt(
        header=task.header,
        name=ask.name,
        role=ask.role,
        file=file.name,
        digest=file.digest,
        system=file.system,
        user=file.document(variables, shown),
        schema=schema,
        chain=route_taken.chain,
        reason=route_taken.reason,
        max_tokens=file.max_tokens,
        sample=ask.sample,
        mode=route_taken.mode,
        answer_by=None if need.can_wait else task.answer_by,
        readings=known.readings,
        citations=citations_of(known.recalled),
    )


def _shown_fact(fact: RecalledFact) -> dict[str, Any]:
    return {
        "subject": fact.subject,
        "predicate": fact.predicate,
        "text": fact.text,
        "value": fact.value,
        "status": fact.status,
        "source": fact.source,
    }


def in_revision(record: Prompt | Plan, revision: int) -> Prompt | Plan:
    """A question about a plan made anew has a name of its own: what was asked before was asked on other facts."""
    if revision and isinstance(record, Prompt):
        return msgspec.structs.replace(record, name=prefix_of(revision) + record.name)
    return record


def found_in(classified: Classified) -> dict[str, Any]:
    """What classifying found in the text, as it is shown."""
    return {"found": dict(classified.found)} if classified.found else {}


def cited(plan: Plan, exchange: Exchange) -> tuple[Citation, ...]:
    """The facts that the plan rests on, those among them that only models were shown."""
    shown = (cited for asked in exchange.values() for cited in asked.prompt.citations)
    return tuple({cited.fact_id: cited for cited in (*shown, *plan.citations)}.values())
