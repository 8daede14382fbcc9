"""What a permit obliges the executor to do with each step: whom to tell, what to hide, which receipt to ask for."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agents.executor.protocol import NOTIFY, Notice
from mesh import obligations
from mesh.notices import TOOL, NoticeArgs
from mesh.records import Call, Decision, Json, Obligation, Plan


@dataclass(frozen=True, slots=True)
class Duties:
    """The obligations of one permit."""

    obligations: tuple[Obligation, ...] = ()
    notices: tuple[Notice, ...] = ()

    def missing(self, token: str, output: Json) -> tuple[str, ...]:
        """Where the receipt that is asked for is not in the output; only a step itself must have one."""
        if "~" in token:
            return ()
        return obligations.missing(output, obligations.values(self.obligations, obligations.RECEIPT, token))

    def redacted(self, token: str, output: Json) -> Json:
        """The output of a step, or of its compensation, as it may be kept."""
        step = token.partition("~")[0]
        return obligations.redacted(output, obligations.values(self.obligations, obligations.REDACT, step))


def duties(plan: Plan, decision: Decision, obliged: Sequence[Obligation]) -> Duties:
    """The duties of a plan under obligations that were checked; the same at each call, so that notices have one key."""
    return Duties(tuple(obliged), tuple(_notices(plan, decision, obliged)))


def _notices(plan: Plan, decision: Decision, obliged: Sequence[Obligation]) -> list[Notice]:
    sheets = {sheet.step: sheet for sheet in decision.sheets}
    policies = {verdict.step: verdict.policies for verdict in decision.steps}
    found: list[Notice] = []
    for step in plan.steps:
        sheet = sheets.get(step.id)
        for number, who in enumerate(obligations.values(obliged, obligations.NOTIFY, step.id), 1):
            suffix = NOTIFY if number == 1 else f"{NOTIFY}~{number}"
            args = NoticeArgs(
                who=who,
                task_id=plan.header.task_id,
                domain=plan.header.domain,
                step=step.id,
                tool=step.call.tool,
                amount=sheet.amount if sheet else 0,
                currency=sheet.currency if sheet else "",
                policies=policies.get(step.id, ()),
            )
            call = Call(tool=TOOL, args=msgspec.Raw(msgspec.json.encode(args)))
            found.append(Notice(step.id + suffix, step.id, call, step.effect_key + suffix, who))
    return found
