"""Acts of governance on a real server: the last valid one counts, whatever stands behind it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.js.kv import KeyValue

from mesh import subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls, Standing, controlling
from mesh.errors import BusUnavailableError, SignatureError, TerminalError
from mesh.halts import HALT, Halt, Halts
from mesh.identity import Identity
from mesh.journal import Committer, Message, committing
from mesh.runtime import NotYetError
from mesh.signing import ACTIVATION_TYPE, CONTROL_TYPE, sign
from mesh.trust import TrustEntry, enroll, revoke
from tests.mesh.live_mesh import LiveMesh, eventually

PEOPLE = {"olga": ("operator",), "pia": ("policy_admin",), "vera": ("viewer",)}


class Board:
    """A bus with enrolled people, and acts on it."""

    def __init__(self, live: LiveMesh, bus: Bus, committer: Committer, bucket: KeyValue) -> None:
        self.live, self.bus, self.committer, self.bucket = live, bus, committer, bucket
        self.root = live.identities["admin"]
        self.who: dict[str, Identity] = {}

    async def enroll(self, name: str, kind: Any, *roles: str) -> None:
        """Enroll somebody with a new key."""
        self.who[name] = Identity.create(self.live.folder / "people" / f"{name}-{time.monotonic_ns()}.nk", name)
        entry = TrustEntry(name=name, public_key=self.who[name].public_key, kind=kind, roles=roles, enrolled_at=now())
        await enroll(self.bucket, self.root, entry)

    @asynccontextmanager
    async def controls(self, name: str = "executor") -> AsyncIterator[tuple[Controls, Halts]]:
        """What a process that has just started knows."""
        async with (
            self.live.bus(name) as bus,
            controlling(bus, self.root.public_key, HALT) as controls,
        ):
            halts = Halts()
            controls.on_change(HALT, halts.replace)
            yield controls, halts

    async def put(self, person: str, halted: bool, **scope: str) -> Standing[Halt]:
        """A person's act, as the command does it."""
        async with self.live.bus("operator") as bus:
            act = Halt(person=person, at=now(), halted=halted, **scope)
            controls = Controls(bus, self.root.public_key, HALT)
            return await controls.put(self.committer, HALT, act, self.who[person])

    async def store(self, data: bytes, subject: str = "control.halt.shop.-.-") -> int:
        """Store bytes under a subject, whatever stands there."""
        (seq,) = await self.committer.commit([Message(subject, data, expected=None)])
        return seq

    async def last(self, subject: str = "control.halt.shop.-.-") -> bytes:
        """What stands there."""
        found = await self.bus.last(subjects.JOURNAL, subject)
        assert found is not None
        return found.data

    def signed(self, person: str, halted: bool, *, signer: str = "", at: datetime | None = None, **scope: str) -> bytes:
        """An act on the domain ``shop``, signed by anybody."""
        scope = scope or {"domain": "shop"}
        act = Halt(person=person, at=at or now(), halted=halted, **scope)
        return bytes(sign(act, CONTROL_TYPE, self.who[signer or person]))


@pytest.fixture
async def board(live: LiveMesh) -> AsyncIterator[Board]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(live.bus())
        committer = await stack.enter_async_context(committing(bus))
        board = Board(live, bus, committer, await bus.client.jetstream().key_value(subjects.TRUST_BUCKET))
        for name, roles in PEOPLE.items():
            await board.enroll(name, "person", *roles)
        await board.enroll("site", "service", "operator")
        await board.enroll("planner", "agent", "planner")
        yield board


async def test_a_halt_and_a_resume_are_in_force_within_a_second_each_time(board: Board) -> None:
    async with board.controls() as (_, halts), board.controls("operator") as (writing, _):
        for halted in (True, False) * 5:
            act = Halt(person="olga", at=now(), halted=halted, domain="shop")
            await writing.put(board.committer, HALT, act, board.who["olga"])
            started = time.monotonic()

            async def is_so(halted: bool = halted) -> bool:
                return (halts.find("shop") is not None) == halted

            await eventually(is_so, within_s=1.0)
            assert time.monotonic() - started < 1.0


async def test_an_act_that_nobody_heard_is_read_within_a_second(board: Board) -> None:
    async with board.controls() as (controls, halts):
        heard = controls._bus.client._subs
        for subscription in [sub for sub in heard.values() if sub.subject == "control.>"]:
            await subscription.unsubscribe()
        await board.put("olga", True, domain="shop")

        async def is_halted() -> bool:
            return halts.find("shop") is not None

        await eventually(is_halted, within_s=1.0)


async def test_what_is_halted_is_so_after_the_server_was_killed_and_for_new_readers(board: Board) -> None:
    async with board.controls() as (_, halts):
        await board.put("olga", True, domain="shop")
        board.live.kill()
        await board.put("pia", True, tool="shop.pay")

        async def is_halted() -> bool:
            return halts.find("bank", tools=("shop.pay",)) is not None

        await eventually(is_halted)
        assert halts.find("shop") is not None
    async with board.controls("policy") as (controls, halts):
        assert halts.find("shop") is not None
        assert [item.act.scope for item in controls.standing(HALT)] == ["domain shop", "tool shop.pay"]


async def test_anybody_enrolled_may_halt_but_only_some_people_may_let_work_go_on(board: Board) -> None:
    await board.put("vera", True, domain="shop")
    await board.put("site", True, domain="bank")
    with pytest.raises(SignatureError, match="without the role operator"):
        await board.put("planner", True, domain="bank")
    for person in ("vera", "site", "planner"):
        with pytest.raises(SignatureError, match="may not let work go on"):
            await board.put(person, False, domain="shop")
        await board.store(board.signed(person, False))
    async with board.controls() as (_, halts):
        assert halts.find("shop") is not None
    for person, domain in (("pia", "shop"), ("olga", "bank")):
        assert not (await board.put(person, False, domain=domain)).act.halted


@pytest.mark.parametrize("who", ["garbage", "another", "thief", "moved", "type", "naive"])
async def test_what_does_not_verify_lifts_no_halt(board: Board, who: str) -> None:
    await board.put("olga", True, domain="shop")
    board.who["thief"] = Identity.create(board.live.folder / "thief.nk", "thief")
    lift = Halt(person="olga", at=now(), halted=False, domain="shop")
    forged = {
        "garbage": b"{}",
        "another": board.signed("olga", False, signer="vera"),
        "thief": board.signed("olga", False, signer="thief"),
        "moved": board.signed("olga", False, domain="bank"),
        "type": bytes(sign(lift, ACTIVATION_TYPE, board.who["olga"])),
        "naive": board.signed("olga", False, at=datetime(2100, 1, 1)),
    }
    async with board.controls() as (controls, running):
        await board.store(forged[who])
        await controls.refresh()
        assert running.find("shop") is not None
    async with board.controls() as (_, started):
        assert started.find("shop") is not None
    assert not (await board.put("olga", False, domain="shop")).act.halted


async def test_an_old_resume_that_is_played_again_lifts_nothing(board: Board) -> None:
    await board.put("olga", True, domain="shop")
    await board.put("olga", False, domain="shop")
    old = await board.last()
    await board.put("olga", True, domain="shop")
    await board.store(old)
    async with board.controls() as (_, halts):
        assert halts.find("shop") is not None


async def test_who_was_trusted_when_the_act_was_stored_is_what_counts(board: Board) -> None:
    await board.put("vera", True, domain="shop")
    stolen = board.who["olga"]
    await revoke(board.bucket, board.root, "olga")
    await revoke(board.bucket, board.root, "vera")
    await board.store(board.signed("olga", False))
    async with board.controls() as (_, halts):
        assert halts.find("shop") is not None  # vera's, and olga's resume came too late
    await board.enroll("olga", "person", "operator")
    act = Halt(person="olga", at=now() + timedelta(seconds=1), halted=False, domain="shop")
    await board.store(bytes(sign(act, CONTROL_TYPE, stolen)))
    async with board.controls() as (_, halts):
        assert halts.find("shop") is not None  # the old key stays refused after a new one was enrolled
    await board.put("olga", False, domain="shop")
    await revoke(board.bucket, board.root, "olga")
    async with board.controls() as (_, halts):
        assert halts.find("shop") is None


async def test_of_two_who_act_at_once_one_is_told_to_look_again(board: Board) -> None:
    done = await asyncio.gather(
        *(board.put(person, True, domain="shop") for person in ("olga", "pia", "vera")), return_exceptions=True
    )
    assert {type(item) for item in done} <= {Standing, TerminalError}
    assert any(isinstance(item, Standing) for item in done)


async def test_a_resume_follows_a_halt_from_a_clock_that_was_fast(board: Board) -> None:
    await board.store(board.signed("olga", True, at=now() + timedelta(hours=1)))
    assert not (await board.put("pia", False, domain="shop")).act.halted


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        ({}, True),
        ({"domain": "shop"}, True),
        ({"domain": "bank"}, False),
        ({"tool": "shop.pay"}, True),
        ({"tool": "shop.payout"}, False),
        ({"domain": "shop", "tool": "shop.pay"}, True),
        ({"domain": "bank", "tool": "shop.pay"}, False),
        ({"agent": "planner"}, True),
        ({"agent": "planner/host-1"}, True),
        ({"agent": "planner/host-10"}, False),
        ({"agent": "plan"}, False),
        ({"domain": "shop", "agent": "executor"}, False),
    ],
)
def test_a_halt_holds_what_all_its_parts_name(scope: dict[str, str], held: bool) -> None:
    halt = Halt(person="olga", at=datetime(2026, 1, 1, tzinfo=UTC), halted=True, **scope)
    assert halt.holds("shop", ("shop.note", "shop.pay"), ("planner/host-1",)) is held


@pytest.mark.parametrize("name", ["a.b", "a b", "a%2Eb", "ä*>", "planner/host-1", "a~b"])
def test_every_scope_has_a_subject_of_its_own(name: str) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    subject = HALT.subject(Halt(person="olga", at=at, halted=True, tool=name))
    tokens = subject.split(".")
    assert len(tokens) == 5 and not set(subject) & set("*> ")
    assert subject != HALT.subject(Halt(person="olga", at=at, halted=True, agent=name))
    assert subject != HALT.subject(Halt(person="olga", at=at, halted=True, tool=name.replace(".", "%2E") + "x"))


def test_what_is_held_comes_again_in_turn() -> None:
    halts = Halts(clock=lambda: 100.0)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    halt = Halt(person="olga", at=at, halted=True, domain="shop", reason="a leak")
    halts.replace([Standing(halt, "", 1, at)])
    delays = []
    for _ in range(1000):
        with pytest.raises(
            NotYetError, match="domain shop is halted by olga since 2026-01-01 00:00:00 UTC: a leak"
        ) as held:
            halts.require("shop")
        delays.append(held.value.delay_s or 0)
    assert delays[0] == 0.5
    assert 5 < delays[-1] < 6
    halts.require("bank")


async def test_a_process_that_cannot_read_the_acts_does_not_begin(board: Board) -> None:
    async with board.live.bus("executor", request_timeout_s=0.3) as bus:
        board.live.server.reconfigure(board.live.users(executor=("publisher",)))

        async def has_lost_its_right() -> bool:
            try:
                await bus.last(subjects.JOURNAL, "control.>")
            except BusUnavailableError:
                return bool(bus.denied)
            return False

        await eventually(has_lost_its_right)
    with pytest.raises(BusUnavailableError, match="no answer to a direct get"):
        async with board.controls("executor"):
            pytest.fail("it began")
