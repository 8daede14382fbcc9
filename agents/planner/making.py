"""Plans by playbooks, with what is read and recalled for them now.

The rule: what a plan rests on (readings, recalled facts, what could not be had) is in the plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec

from agents.planner.learned import LearnedChanges, pick
from agents.planner.looking import read_all
from agents.planner.place import FIRST, Place
from agents.planner.planning import Inputs, make_plan, put_parameters
from agents.planner.playbook import Playbook, Recall
from mesh.errors import TerminalError
from mesh.expressions import ExpressionError, Variables
from mesh.memory import Question
from mesh.recall import Recollection
from mesh.records import Context, Header, Plan, Reading, Understood
from mesh.toolbox import Toolbox


class Memory(Protocol):
    """What facts are recalled from; ``mesh.recall.Recall`` in the process."""

    async def recall(self, questions: Sequence[Question], *, anew: bool = False) -> Recollection:
        """The facts for all questions."""
        ...


class Maker:
    """Makes plans by playbooks. One for all packs of the process."""

    def __init__(
        self,
        recall: Memory,
        playbooks: Mapping[str, tuple[Playbook, ...]],
        toolboxes: Mapping[str, Toolbox],
        learned: LearnedChanges,
    ) -> None:
        self._recall = recall
        self._playbooks = playbooks
        self._toolboxes = toolboxes
        self._learned = learned

    async def make(
        self,
        context: Context,
        header: Header,
        place: Place = FIRST,
        understood: Understood | None = None,
        readings: tuple[Reading, ...] | None = None,
    ) -> Plan:
        """The plan of a context, or of what was ``understood`` in its text; reads and recalls now.

        With ``readings`` nothing is read again: the plan is made on these.
        """
        domain = context.header.domain
        if domain not in self._playbooks:
            raise TerminalError(f"this planner has no pack {domain!r}: install it and release the record")
        inputs = Inputs(context, notes=place.notes, understood=understood)
        try:
            books, in_force = self._playbooks[domain], self._learned.of(domain)
            playbook, learned = pick(books, inputs.event_type, inputs.variables, in_force)
            if learned:
                inputs = replace(inputs, learned=learned)
            if playbook is not None and (playbook.recall or playbook.reads):
                inputs = await self._gather(playbook, inputs, header, readings, anew=place.revision > 0)
        except ExpressionError as error:
            raise TerminalError(f"the playbooks of {domain} cannot be applied to {header.task_id}: {error}") from error
        return make_plan(playbook, inputs, header, place.revision)

    async def _gather(
        self, playbook: Playbook, inputs: Inputs, header: Header, known: tuple[Reading, ...] | None, *, anew: bool
    ) -> Inputs:
        domain = header.domain
        put_parameters(playbook, inputs)
        variables = inputs.variables
        recalled = await self.remember(playbook.recall, domain, variables, anew=anew)
        readings = known
        if readings is None:
            readings = await read_all(self._toolboxes[domain], playbook.reads, variables, header.traceparent)
        variables.put("reads", {read.name: msgspec.json.decode(read.answer) for read in readings})
        notes = (*inputs.notes, *recalled.notes)
        return replace(inputs, readings=readings, recalled=recalled.facts, notes=notes)

    async def remember(
        self, recalls: Sequence[Recall], domain: str, variables: Variables, *, anew: bool = False
    ) -> Recollection:
        """What memory knows of these; a note where something was not asked, or could not be had."""
        asked = [recall.question(domain, variables) for recall in recalls]
        questions = [question for question in asked if question is not None]
        found = await self._recall.recall(questions, anew=anew) if questions else Recollection()
        if left_out := len(asked) - len(questions):
            note = f"did not ask memory {left_out} of {len(asked)} questions: a part of them is empty, or no prefix"
            return Recollection(found.facts, (*found.notes, note))
        return found
