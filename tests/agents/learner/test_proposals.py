"""Proposals across kills and copies, and histories of approvals and rollbacks as a model has them."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.learner.proposals import Proposals
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls
from mesh.errors import SignatureError
from mesh.identity import Identity
from mesh.journal import committing
from mesh.learned import (
    LEARNED,
    ChangeKind,
    LearnedAct,
    LearnedChange,
    LearnedWord,
    Proposal,
    ProposalState,
    Value,
    Verdict,
)
from mesh.parameters import Declared, Parameter
from mesh.records import NULL
from mesh.signing import LEARNED_TYPE, sign
from mesh.trust import TrustEntry, enroll
from tests.agents.learner.endings import opened_proposals
from tests.memory_service.running_memory import Site

AT = datetime(2026, 1, 1, tzinfo=UTC)
DECLARED = {
    "shop": {
        "shop.return": Declared(
            name="shop.return",
            events=("shop.return.requested",),
            parameters={"most": Parameter(type="int", default=5, min=1, max=9)},
        )
    }
}


def change(value: Value, before: Value = None) -> LearnedChange:
    """A change of the threshold."""
    return LearnedChange(
        kind=ChangeKind.THRESHOLD, domain="shop", target="shop.return", parameter="most", before=before, value=value
    )


def proposal(value: Value, why: str = "w") -> Proposal:
    """The proposal of it."""
    return Proposal(change=change(value), why=why, gain="g", evidence=(), records=(), made_at=AT, version=1)


def word(person: Identity, proposed: str, of: LearnedChange, at: datetime) -> msgspec.Raw:
    """A person's approval at this time."""
    said = LearnedWord(
        proposal=proposed,
        change=of,
        verdict=Verdict.APPROVE,
        role="learning_admin",
        person=person.name,
        reason="",
        nonce=secrets.token_hex(4),
        at=at,
        expires_at=at + timedelta(minutes=5),
    )
    return sign(said, LEARNED_TYPE, person)


@pytest.fixture
async def lea(site: Site) -> Identity:
    """A person who may approve, enrolled."""
    person = Identity.create(site.folder / "people" / "lea.nk", "lea")
    root = Identity.load(site.folder / "keys" / "admin.nk")
    async with site.bus("admin") as admin:
        bucket = await admin.client.jetstream().key_value("TRUST")
        roles = ("learning_admin",)
        entry = TrustEntry(name="lea", public_key=person.public_key, kind="person", roles=roles, enrolled_at=now())
        await enroll(bucket, root, entry)
    return person


@pytest.fixture
async def proposals(site: Site, learner: Bus) -> AsyncIterator[Proposals]:
    """The proposals of one copy of the learner."""
    async with opened_proposals(site, learner, DECLARED) as found:
        yield found


async def force(site: Site, bus: Bus, proposed: Proposal, lea: Identity) -> None:
    """What a learner leaves that is killed between the act and what stands of its proposal."""
    root, signer = (Identity.load(site.folder / "keys" / f"{name}.nk") for name in ("admin", "learner"))
    given_ = word(lea, proposed.id, proposed.change, now())
    act = LearnedAct(person="learner", at=now(), change=proposed.change, proposal=proposed.id, word=given_)
    async with committing(bus) as committer:
        await Controls(bus, root.public_key, LEARNED).put(committer, LEARNED, act, signer)


async def test_after_a_kill_a_proposal_stands_as_its_act_says(
    site: Site, learner: Bus, proposals: Proposals, lea: Identity
) -> None:
    made = await proposals.propose(proposal(7))
    await force(site, learner, proposal(7), lea)
    await proposals.refresh()
    await proposals.settle()
    assert proposals.find(made).act.state is ProposalState.APPROVED
    assert proposals.value(change(None)) == 7


async def test_two_for_one_target_and_one_that_rests_on_what_is_gone_are_withdrawn(
    site: Site, learner: Bus, proposals: Proposals, lea: Identity
) -> None:
    first = await proposals.propose(proposal(7))
    second = await proposals.propose(proposal(8))
    await proposals.settle()
    states = [proposals.find(each).act.state for each in (first, second)]
    assert states == [ProposalState.PROPOSED, ProposalState.WITHDRAWN]
    other = await proposals.propose(proposal(9, "another"))
    await force(site, learner, proposal(7), lea)
    await proposals.refresh()
    await proposals.settle()
    assert proposals.find(other).act.state is ProposalState.WITHDRAWN


async def test_a_value_out_of_bounds_is_withdrawn_and_cannot_be_approved(proposals: Proposals) -> None:
    made = await proposals.propose(proposal(10))
    await proposals.settle()
    act = proposals.find(made).act
    assert (act.state, act.reason) == (ProposalState.WITHDRAWN, "10 is not within 1 and 9")


async def test_what_is_taken_back_is_what_was_there_before(
    site: Site, learner: Bus, proposals: Proposals, lea: Identity
) -> None:
    made = await proposals.propose(proposal(7))
    await force(site, learner, proposal(7), lea)
    await proposals.refresh()
    await proposals.settle()
    await proposals.roll_back(proposals.find(made).act, "it has worsened")
    assert proposals.value(change(None)) is None
    assert proposals.find(made).act.state is ProposalState.ROLLED_BACK
    assert proposals.uses("shop") == ()


STEPS = st.lists(st.one_of(st.integers(0, 9), st.just("back"), st.just("replay"), st.just("elsewhere")), max_size=12)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A person's key."""
    return Identity.create(tmp_path_factory.mktemp("people") / "lea.nk", "lea")


@given(steps=STEPS)
def test_any_history_is_as_the_model_has_it(key: Identity, steps: list[int | str]) -> None:
    """The model: a value, what it was before the last approval, and nothing else."""
    value: Value = None
    before: Value = None
    can_go_back = False
    standing: LearnedAct | None = None
    past: list[LearnedAct] = []
    for number, step in enumerate(steps, 1):
        at = AT + timedelta(minutes=number)
        if isinstance(step, int):
            of = change(step, value)
            act = LearnedAct(person="learner", at=at, change=of, proposal=f"p{number}", word=word(key, "p", of, at))
        elif step == "replay" and past:
            act = msgspec.structs.replace(past[0], at=at)
        elif standing is None:
            continue
        else:
            to = before if step == "back" else "elsewhere"
            of = change(to, standing.change.value)
            act = LearnedAct(person="learner", at=at, change=of, proposal=standing.proposal, word=NULL, back=True)
        legal = isinstance(step, int) or (step == "back" and can_go_back)
        try:
            LEARNED.follows(act, standing, at)
        except SignatureError:
            assert not legal
            continue
        assert legal
        if act.back:
            value, can_go_back = before, False
        else:
            before, value, can_go_back = value, act.change.value, True
            past.append(act)
        standing = act
        assert standing.change.value == value
