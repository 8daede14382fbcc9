"""The executor's own check of a permit: each thing that can be wrong with one is refused, with its cause."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.executor.permit import PermitRefusedError, check
from mesh.activation import Activations
from mesh.identity import Identity
from mesh.records import Decision, Permit, Phase, Plan, Verdict
from mesh.signing import PERMIT_TYPE, TRUST_TYPE, sign
from mesh.trust import TrustDirectory, TrustEntry
from tests.agents.executor.histories import AT, TASK, header, plan, step

PLAN = plan(step("one"), step("two", "one"))
BUNDLE = "sha256:bundle"


class Accepting(Activations):
    """Activations that accept one bundle, with no bucket behind them."""

    def __init__(self) -> None:
        """Nothing is read."""

    async def accepts(self, domain: str, digest: str) -> bool:
        """Whether it is that bundle."""
        return (domain, digest) == ("till", BUNDLE)


class Site:
    """Keys, and a directory that knows policy's and the planner's."""

    def __init__(self, folder: Path) -> None:
        self.root, self.policy, self.planner, self.stranger = (
            Identity.create(folder / f"{name}.nk", name) for name in ("root", "policy", "planner", "stranger")
        )
        self.trust = TrustDirectory(self.root.public_key)
        self.enroll(self.policy)
        self.enroll(self.planner)

    def enroll(self, identity: Identity, **changes: Any) -> None:
        """Put an entry into the directory; a later one replaces it."""
        entry = TrustEntry(
            name=identity.name, public_key=identity.public_key, kind="agent", roles=(identity.name,), enrolled_at=AT
        )
        self.trust.apply(sign(msgspec.structs.replace(entry, **changes), TRUST_TYPE, self.root))

    async def check(
        self, permit: Permit, *, signer: Identity | None = None, of: Plan = PLAN, used: bool = False, late_s: float = 0
    ) -> Permit:
        """Hold a permit against a plan, a minute after it was issued."""
        return await self.check_signed(sign(permit, PERMIT_TYPE, signer or self.policy), of, used, late_s)

    async def check_signed(self, signed: msgspec.Raw, of: Plan = PLAN, used: bool = False, late_s: float = 0) -> Permit:
        """The same, of an envelope."""
        decision = Decision(
            header=header(),
            phase=Phase.PROPOSE,
            verdict=Verdict.ALLOW,
            plan_digest=of.digest,
            bundle=BUNDLE,
            steps=(),
            signed=signed,
        )
        at = AT + timedelta(seconds=60 + late_s)
        return await check(decision, of, self.trust, Accepting(), now=at, used=used)


def permit(**changes: Any) -> Permit:
    """A good permit for an hour, or one that differs from it."""
    good = Permit(
        id="permit",
        task_id=TASK,
        domain="till",
        plan_digest=PLAN.digest,
        verdict=Verdict.ALLOW,
        steps=("one", "two"),
        bundle=BUNDLE,
        approved_by=(),
        issued_at=AT,
        expires_at=AT + timedelta(hours=1),
    )
    return msgspec.structs.replace(good, **changes)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Keys and trust."""
    return Site(tmp_path)


async def test_a_good_permit_permits(site: Site) -> None:
    assert await site.check(permit()) == permit()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"verdict": Verdict.DENY}, "verdict"),
        ({"verdict": Verdict.NEEDS_APPROVAL}, "verdict"),
        ({"task_id": "t2"}, "task"),
        ({"domain": "shop"}, "task"),
        ({"plan_digest": "sha256:other"}, "plan"),
        ({"steps": ("one",)}, "plan"),
        ({"steps": ("two", "one")}, "plan"),
        ({"bundle": "sha256:old"}, "bundle"),
        ({"expires_at": AT + timedelta(seconds=60)}, "expired"),
    ],
)
async def test_a_permit_for_something_else_is_refused(site: Site, changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(PermitRefusedError) as refused:
        await site.check(permit(**changes))
    assert refused.value.cause == cause


def _other_step(of: Plan) -> Plan:
    return msgspec.structs.replace(of, steps=(*of.steps, step("three")))


def _other_key(of: Plan) -> Plan:
    return msgspec.structs.replace(of, steps=(msgspec.structs.replace(of.steps[0], effect_key="k"), of.steps[1]))


def _other_undo(of: Plan) -> Plan:
    return msgspec.structs.replace(of, steps=(step("one", undo=False), of.steps[1]))


@pytest.mark.parametrize("tamper", [_other_step, _other_key, _other_undo])
async def test_a_plan_that_was_changed_after_the_permit_is_refused(site: Site, tamper: Callable[[Plan], Plan]) -> None:
    with pytest.raises(PermitRefusedError) as refused:
        await site.check(permit(), of=tamper(PLAN))
    assert refused.value.cause == "plan"


async def test_a_plan_whose_step_claims_the_place_of_an_undoing_is_refused(site: Site) -> None:
    of = plan(step("one"), step("one~undo"))
    with pytest.raises(PermitRefusedError, match="an id that is none") as refused:
        await site.check(permit(plan_digest=of.digest, steps=("one", "one~undo")), of=of)
    assert refused.value.cause == "plan"


@pytest.mark.parametrize("who", ["planner", "stranger", "root"])
async def test_another_signer_is_refused(site: Site, who: str) -> None:
    with pytest.raises(PermitRefusedError) as refused:
        await site.check(permit(), signer=getattr(site, who))
    assert refused.value.cause == "signature"


async def test_a_revoked_signer_is_refused(site: Site) -> None:
    site.enroll(site.policy, revoked_at=AT + timedelta(seconds=1))
    with pytest.raises(PermitRefusedError, match="revoked") as refused:
        await site.check(permit())
    assert refused.value.cause == "signature"


async def test_every_changed_byte_of_a_signed_permit_is_refused(site: Site) -> None:
    signed = bytes(sign(permit(), PERMIT_TYPE, site.policy))
    for place in range(0, len(signed), 7):
        changed = signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :]
        with pytest.raises(PermitRefusedError):
            await site.check_signed(msgspec.Raw(changed))


@pytest.mark.parametrize("late_s", [3600.0, 86_400.0])
async def test_a_task_begun_in_time_goes_on_after_the_permit_has_expired(site: Site, late_s: float) -> None:
    assert await site.check(permit(), used=True, late_s=late_s)
    assert await site.check(permit(bundle="sha256:old"), used=True)
    with pytest.raises(PermitRefusedError):
        await site.check(permit(), late_s=late_s)
