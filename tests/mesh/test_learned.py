"""Learned changes on a real server: none is in force without a person's word on exactly that, in its time, once."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from nats.js.kv import KeyValue

from mesh import subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls
from mesh.errors import SignatureError
from mesh.identity import Identity
from mesh.journal import Committer, Message, committing
from mesh.learned import (
    LEARNED,
    PROPOSALS,
    ChangeKind,
    LearnedAct,
    LearnedChange,
    LearnedWord,
    Proposal,
    ProposalAct,
    ProposalState,
    Value,
    Verdict,
    learned_subject,
)
from mesh.records import NULL
from mesh.signing import CONTROL_TYPE, LEARNED_TYPE, sign
from mesh.trust import TrustEntry, enroll, revoke
from tests.mesh.live_mesh import LiveMesh

CHANGE = LearnedChange(kind=ChangeKind.CHOICE, domain="shop", target="shop.return", value="shop.return-checked")
PROPOSAL = Proposal(
    change=CHANGE, why="w", gain="g", evidence=(), records=(), made_at=now().replace(microsecond=0), version=1
)


class Board:
    """A bus with the learner and people enrolled."""

    def __init__(self, live: LiveMesh, bus: Bus, committer: Committer, bucket: KeyValue) -> None:
        self.live, self.bus, self.committer, self.bucket = live, bus, committer, bucket
        self.root = live.identities["admin"]
        self.who: dict[str, Identity] = {}
        self.controls = Controls(bus, self.root.public_key, LEARNED, PROPOSALS)

    async def enroll(self, name: str, kind: Any, *roles: str) -> None:
        """Enroll somebody with a new key."""
        self.who[name] = Identity.create(self.live.folder / "people" / f"{name}-{time.monotonic_ns()}.nk", name)
        entry = TrustEntry(name=name, public_key=self.who[name].public_key, kind=kind, roles=roles, enrolled_at=now())
        await enroll(self.bucket, self.root, entry)

    def word(self, signer: str = "lea", change: LearnedChange = CHANGE, **values: Any) -> msgspec.Raw:
        """A word on the proposal; by default one that counts."""
        said = LearnedWord(
            proposal=PROPOSAL.id,
            change=change,
            verdict=Verdict.APPROVE,
            role="learning_admin",
            person="lea",
            reason="",
            nonce=secrets.token_hex(4),
            at=now(),
            expires_at=now() + timedelta(minutes=5),
        )
        return sign(msgspec.structs.replace(said, **values), LEARNED_TYPE, self.who[signer])

    def act(self, word: msgspec.Raw, change: LearnedChange = CHANGE, **values: Any) -> LearnedAct:
        """The act that a word is for."""
        act = LearnedAct(person="learner", at=now(), change=change, proposal=PROPOSAL.id, word=word)
        return msgspec.structs.replace(act, **values)

    def back(self, before: Value = "shop.return-checked", value: Value = None) -> LearnedAct:
        """Going back."""
        change = msgspec.structs.replace(CHANGE, before=before, value=value)
        return self.act(msgspec.Raw(b"null"), change, back=True)

    async def put(self, act: LearnedAct) -> None:
        """Put an act on record as the learner does."""
        await self.controls.put(self.committer, LEARNED, act, self.who["learner"])

    async def force(self, act: LearnedAct, signer: str = "learner") -> None:
        """Store an act whatever it says, as a learner would that was taken over."""
        data = bytes(sign(act, CONTROL_TYPE, self.who[signer]))
        await self.committer.commit([Message(learned_subject(act.change), data, expected=None)])

    async def value(self) -> Value:
        """What a process that has just started takes for the value in force."""
        fresh = Controls(self.bus, self.root.public_key, LEARNED)
        await fresh.refresh()
        found = fresh.standing(LEARNED)
        return found[0].act.change.value if found else None


@pytest.fixture
async def board(live: LiveMesh) -> AsyncIterator[Board]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(live.bus())
        committer = await stack.enter_async_context(committing(bus))
        board = Board(live, bus, committer, await bus.client.jetstream().key_value(subjects.TRUST_BUCKET))
        await board.enroll("lea", "person", "learning_admin")
        await board.enroll("vera", "person", "viewer")
        await board.enroll("learner", "agent", "learner")
        await board.enroll("planner", "agent", "planner")
        await board.enroll("robot", "service", "learning_admin")
        yield board


async def test_a_change_with_a_persons_word_is_in_force_and_can_go_back_without_one(board: Board) -> None:
    await board.put(board.act(board.word()))
    assert await board.value() == "shop.return-checked"
    await board.put(board.back())
    assert await board.value() is None


FORGED: dict[str, Callable[[Board], LearnedAct]] = {
    "learner alone": lambda b: b.act(msgspec.Raw(b"null")),
    "learner's own word": lambda b: b.act(b.word("learner", person="learner")),
    "another's key": lambda b: b.act(b.word("vera")),
    "without the role": lambda b: b.act(b.word("vera", person="vera")),
    "in another role": lambda b: b.act(b.word(role="viewer")),
    "a service's": lambda b: b.act(b.word("robot", person="robot")),
    "over": lambda b: b.act(b.word(expires_at=now() - timedelta(seconds=1))),
    "a rejection": lambda b: b.act(b.word(verdict=Verdict.REJECT)),
    "another proposal": lambda b: b.act(b.word(proposal="other")),
    "another value": lambda b: b.act(b.word(), msgspec.structs.replace(CHANGE, value="shop.return-hasty")),
    "another domain": lambda b: b.act(b.word(), msgspec.structs.replace(CHANGE, domain="bank")),
    "a stage of autonomy": lambda b: _of_kind(b, ChangeKind.AUTONOMY),
    "a fact": lambda b: _of_kind(b, ChangeKind.FACT),
    "back from nothing": lambda b: b.back(),
    "back to anything": lambda b: b.back(None, "shop.return-hasty"),
}


def _of_kind(board: Board, kind: ChangeKind) -> LearnedAct:
    change = msgspec.structs.replace(CHANGE, kind=kind)
    return board.act(board.word(change=change), change)


@pytest.mark.parametrize("how", FORGED)
async def test_what_no_person_has_said_is_not_in_force(board: Board, how: str) -> None:
    act = FORGED[how](board)
    with pytest.raises(SignatureError):
        await board.put(act)
    await board.force(act)
    assert await board.value() is None


async def test_the_word_must_be_put_on_record_by_the_learner(board: Board) -> None:
    act = msgspec.structs.replace(board.act(board.word()), person="planner")
    await board.force(act, "planner")
    assert await board.value() is None
    await board.force(board.act(board.word()), "planner")
    assert await board.value() is None


async def test_a_word_counts_once(board: Board) -> None:
    word = board.word()
    await board.put(board.act(word))
    await board.put(board.back())
    with pytest.raises(SignatureError, match="a replay"):
        await board.put(board.act(word))
    await board.force(board.act(word))
    assert await board.value() is None


async def test_a_word_is_about_what_was_in_force_then(board: Board) -> None:
    await board.put(board.act(board.word()))
    hasty = msgspec.structs.replace(CHANGE, value="shop.return-hasty")
    with pytest.raises(SignatureError, match="is in force, not None"):
        await board.put(board.act(board.word(change=hasty), hasty))
    assert await board.value() == "shop.return-checked"


@pytest.mark.parametrize(
    ("before", "value"), [("shop.return-checked", "shop.return-hasty"), (None, None), ("shop.return-hasty", None)]
)
async def test_going_back_leads_only_to_what_was_there_before(board: Board, before: Value, value: Value) -> None:
    await board.put(board.act(board.word()))
    await board.force(board.back(before, value))
    assert await board.value() == "shop.return-checked"


async def test_going_back_twice_is_no_way_forward(board: Board) -> None:
    await board.put(board.act(board.word()))
    await board.put(board.back())
    await board.force(board.back(None, "shop.return-checked"))
    assert await board.value() is None


async def test_a_word_of_a_person_who_was_cut_off_before_does_not_count(board: Board) -> None:
    act = board.act(board.word())
    await revoke(board.bucket, board.root, "lea")
    await board.force(act)
    assert await board.value() is None


async def test_a_change_that_was_approved_stays_when_its_person_leaves(board: Board) -> None:
    await board.put(board.act(board.word()))
    await revoke(board.bucket, board.root, "lea")
    assert await board.value() == "shop.return-checked"


async def test_a_proposal_begins_as_proposed_and_is_approved_or_rejected_by_a_word_once(board: Board) -> None:
    async def put(state: ProposalState, word: msgspec.Raw = NULL) -> None:
        act = ProposalAct(person="learner", at=now(), proposal=PROPOSAL, state=state, word=word)
        await board.controls.put(board.committer, PROPOSALS, act, board.who["learner"])

    with pytest.raises(SignatureError, match="begins as proposed"):
        await put(ProposalState.APPROVED, board.word())
    await put(ProposalState.PROPOSED)
    with pytest.raises(SignatureError):
        await put(ProposalState.APPROVED)
    with pytest.raises(SignatureError, match="is approve, not reject"):
        await put(ProposalState.REJECTED, board.word())
    await put(ProposalState.REJECTED, board.word(verdict=Verdict.REJECT))
    with pytest.raises(SignatureError, match="cannot take approved"):
        await put(ProposalState.APPROVED, board.word())
