"""Learned changes as the planner uses them: which playbook is chosen, with which values of its parameters.

The rule: what a pack does not declare, or what is out of its bounds, is not used, whoever has approved it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from agents.planner.playbook import Playbook, choose
from mesh.control import Standing
from mesh.experience import LearnedUse
from mesh.expressions import Variables
from mesh.learned import ChangeKind, LearnedAct
from mesh.parameters import Number, why_no_variant

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InForce:
    """The changes in force in one domain: by playbook the chosen variant, and the learned values of its parameters."""

    choices: Mapping[str, LearnedUse] = field(default_factory=dict)
    values: Mapping[str, tuple[LearnedUse, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, uses: Iterable[LearnedUse]) -> "InForce":
        """From these uses."""
        found = tuple(uses)
        values = [use for use in found if use.parameter]
        return cls(
            {use.target: use for use in found if not use.parameter},
            {name: tuple(use for use in values if use.target == name) for name in {use.target for use in values}},
        )


NOTHING = InForce()


class LearnedChanges:
    """The changes in force, as a look-up in memory. Kept current by ``Controls.on_change``."""

    def __init__(self, playbooks: Mapping[str, tuple[Playbook, ...]]) -> None:
        self._playbooks = {name: {book.name: book for book in books} for name, books in playbooks.items()}
        self._found: dict[str, InForce] = {}

    def replace(self, standing: Iterable[Standing[LearnedAct]]) -> None:
        """Take these for all that stands."""
        uses: dict[str, list[LearnedUse]] = {}
        for item in standing:
            change = item.act.change
            if change.value is None or change.domain not in self._playbooks:
                continue
            use = LearnedUse(
                target=change.target,
                value=change.value,
                proposal=item.act.proposal,
                parameter=change.parameter if change.kind is ChangeKind.THRESHOLD else "",
                seq=item.seq,
            )
            if why := why_not(self._playbooks[change.domain], use):
                log.error("learned_change_not_used", domain=change.domain, proposal=use.proposal, reason=why)
                continue
            uses.setdefault(change.domain, []).append(use)
        self._found = {domain: InForce.of(found) for domain, found in uses.items()}

    def of(self, domain: str) -> InForce:
        """The changes in force in a domain."""
        return self._found.get(domain, NOTHING)


def why_not(playbooks: Mapping[str, Playbook], use: LearnedUse) -> str:
    """Why a change is not one that these playbooks declare; empty when it is."""
    book = playbooks.get(use.target)
    if book is None:
        return f"there is no playbook {use.target!r}"
    if not use.parameter:
        return why_no_variant(playbooks, use.target, use.value)
    parameter = book.parameters.get(use.parameter)
    return parameter.why_not(use.value) if parameter else f"{use.target} has no parameter {use.parameter!r}"


def pick(
    playbooks: Iterable[Playbook], event_type: str, variables: Variables, in_force: InForce
) -> tuple[Playbook | None, tuple[LearnedUse, ...]]:
    """The playbook for an event, and the changes that it is used under."""
    books = tuple(playbooks)
    book = choose(books, event_type, variables)
    if book is None:
        return None, ()
    uses: tuple[LearnedUse, ...] = ()
    if (choice := in_force.choices.get(book.name)) is not None:
        variant = next((each for each in books if each.name == choice.value), None)
        if variant is not None and event_type in variant.events and variant.when.holds(variables):
            book, uses = variant, (choice,)
    return book, (*uses, *in_force.values.get(book.name, ()))


def values_of(playbook: Playbook, uses: Iterable[LearnedUse]) -> dict[str, Number]:
    """What a playbook's expressions see as ``parameters``: what was learned, else its own defaults."""
    found = {name: parameter.default for name, parameter in playbook.parameters.items()}
    for use in uses:
        parameter = playbook.parameters.get(use.parameter) if use.target == playbook.name else None
        if parameter is not None and not isinstance(use.value, str) and not parameter.why_not(use.value):
            found[use.parameter] = use.value
    return found
