"""Staged autonomy, ``autonomy.yaml`` of a bundle: how far a tool may act by itself, and what it takes to go further.

Pure. The rule: a stage only ever adds to what policies demand; up takes evidence and a person, down happens by itself.
"""

from datetime import timedelta
from typing import Annotated

import msgspec

from mesh.autonomy import Evidence, Stage
from mesh.money import money
from mesh.records import Struct
from policy_service.quorum import QuorumError, read_roles

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Tasks = Annotated[int, msgspec.Meta(ge=1)]


class AutonomyError(ValueError):
    """An ``autonomy.yaml`` that cannot be meant."""


class Bar(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What evidence is held against: at least so many ``tasks`` in the ``window``, and rates."""

    window: timedelta
    tasks: Tasks
    override_rate: Rate
    error_rate: Rate


class ToolRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a supervised tool needs approval for: more than ``approve_above`` (minor units), or tainted arguments."""

    tool: str
    approve_above: int | None = None
    approve_tainted: bool = False


class Autonomy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file. ``start`` is the stage of a tool of which nothing was decided; ``approvers`` approve what is proposed,
    ``promoters`` raise a stage.
    """

    start: Stage
    approvers: str
    promoters: str
    raise_when: Bar
    lower_when: Bar
    tools: tuple[ToolRule, ...] = ()

    def __post_init__(self) -> None:
        for name, text in (("approvers", self.approvers), ("promoters", self.promoters)):
            try:
                read_roles(text)
            except QuorumError as error:
                raise AutonomyError(f"autonomy.yaml: {name}: {error}") from error

    @property
    def approver_roles(self) -> tuple[str, ...]:
        """The roles, with how many people in each."""
        return read_roles(self.approvers)

    @property
    def promoter_roles(self) -> tuple[str, ...]:
        """The roles that may raise a stage: any one of them."""
        return read_roles(self.promoters)

    def rule(self, tool: str) -> ToolRule:
        """The rule of a tool, or one that asks for nothing."""
        return next((rule for rule in self.tools if rule.tool == tool), ToolRule(tool=tool))

    def why_approval(self, stage: Stage, tool: str, amount: int, currency: str, tainted: bool) -> str:
        """Why a step with this tool needs approval at this stage; empty when it needs none."""
        rule = self.rule(tool)
        if stage is Stage.PROPOSE:
            return f"{tool} may only be proposed yet"
        if stage is Stage.SUPERVISED and rule.approve_above is not None and abs(amount) > rule.approve_above:
            return f"{tool} is supervised: more than {money(rule.approve_above, currency)} needs approval"
        if stage is Stage.SUPERVISED and rule.approve_tainted and tainted:
            return f"{tool} is supervised: an argument holds text from outside"
        return ""


def why_not_up(evidence: Evidence, bar: Bar) -> str:
    """What the evidence lacks for the next stage; empty when it suffices."""
    if evidence.tasks < bar.tasks:
        return f"{evidence.tasks} tasks are too few: {bar.tasks} are needed"
    if evidence.override_rate > bar.override_rate:
        return f"{evidence.override_rate:.1%} were overridden: at most {bar.override_rate:.1%} may be"
    if evidence.error_rate > bar.error_rate:
        return f"{evidence.error_rate:.1%} ended in error: at most {bar.error_rate:.1%} may"
    return ""


def breach(evidence: Evidence, bar: Bar) -> str:
    """What takes a tool down a stage; empty when nothing does."""
    if evidence.tasks < bar.tasks:
        return ""
    if evidence.override_rate > bar.override_rate:
        return f"{evidence.override_rate:.1%} were overridden by people, more than {bar.override_rate:.1%}"
    if evidence.error_rate > bar.error_rate:
        return f"{evidence.error_rate:.1%} ended in error, more than {bar.error_rate:.1%}"
    return ""


def read_autonomy(table: object) -> Autonomy:
    """``autonomy.yaml``; raises ``AutonomyError`` or ``msgspec.ValidationError``."""
    found = msgspec.convert(table, type=Autonomy, strict=False)
    names = [rule.tool for rule in found.tools]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise AutonomyError(f"autonomy.yaml: {repeated[0]} stands twice among the tools")
    return found
