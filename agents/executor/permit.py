"""The executor's own check of a permit: nothing is taken on trust, and no permit works twice (DESIGN 3.5).

The rule: anything but a valid permit is a refusal with its reason, on record.
"""

from datetime import datetime

from mesh import obligations, plans
from mesh.activation import Activations
from mesh.errors import SignatureError, WorkmeshError
from mesh.records import Decision, Permit, Plan, Verdict
from mesh.signing import PERMIT_TYPE, open_envelope
from mesh.trust import TrustDirectory

SIGNER_ROLE = "policy"
CAUSES = ("signature", "verdict", "task", "plan", "obligation", "expired", "bundle", "used")
"""The classes of refusal; a permit is ``used`` when another decision has led to effects."""


class PermitRefusedError(WorkmeshError):
    """Why a permit does not permit; ``cause`` is a class to count by."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


async def check(
    decision: Decision, plan: Plan, trust: TrustDirectory, activations: Activations, *, now: datetime, used: bool
) -> Permit:
    """The permit in a decision; raises ``PermitRefusedError``.

    ``used`` says that effects were begun under it: it was valid in time then, so its end does not strand the task.
    """
    head = decision.header
    try:
        permit, _ = open_envelope(decision.signed, PERMIT_TYPE, Permit, lambda keyid: _require(trust, keyid))
    except SignatureError as error:
        raise PermitRefusedError("signature", f"the permit's signature is refused: {error}") from error
    if permit.verdict is not Verdict.ALLOW:
        raise PermitRefusedError("verdict", f"the signed verdict is {permit.verdict}, not allow")
    if (permit.task_id, permit.domain) != (head.task_id, head.domain):
        raise PermitRefusedError("task", f"the permit is for task {permit.task_id} of {permit.domain}")
    if found := plans.faults(plan):
        raise PermitRefusedError("plan", "; ".join(found))
    if permit.plan_digest != plan.digest:
        raise PermitRefusedError("plan", f"the permit is for plan {permit.plan_digest}, not {plan.digest}")
    if permit.steps != tuple(step.id for step in plan.steps):
        raise PermitRefusedError("plan", "the permit's steps are not the plan's")
    _check_obligations(permit)
    if not used and now >= permit.expires_at:
        raise PermitRefusedError("expired", f"the permit expired at {permit.expires_at.isoformat()}")
    if not used and not await activations.accepts(permit.domain, permit.bundle):
        raise PermitRefusedError("bundle", f"the policy bundle {permit.bundle} is no longer accepted")
    return permit


def _check_obligations(permit: Permit) -> None:
    for obligation in permit.obligations:
        try:
            obligations.check(obligation)
        except obligations.ObligationError as error:
            raise PermitRefusedError("obligation", f"the permit obliges to what cannot be done: {error}") from error
        if obligation.step not in ("", *permit.steps):
            raise PermitRefusedError("obligation", f"the permit has an obligation on {obligation.step}, no step of it")


def _require(trust: TrustDirectory, keyid: str) -> None:
    trust.require(keyid, SIGNER_ROLE)
