"""A real bus and running copies of the memory service, for tests."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from memory_service.process import remembering
from memory_service.view import FactView
from mesh import service, streams, subjects
from mesh.bus import Bus, connect
from mesh.clock import now
from mesh.embedded import EmbeddedNats
from mesh.facts import SOURCE_ROLE, STEWARD_ROLE, Claim, RecalledFact, Slot, Word
from mesh.identity import Identity
from mesh.journal import committing
from mesh.memory import (
    ChangeAnswer,
    HistoryLine,
    HistoryRequest,
    Question,
    RecallAnswer,
    RecallRequest,
    RememberAnswer,
    RememberRequest,
    RetractRequest,
    SignedRequest,
)
from mesh.permissions import ROLES, BusUser
from mesh.records import Json
from mesh.service import serving
from mesh.signing import MEMORY_TYPE, TRUST_TYPE, sign
from mesh.trust import TrustDirectory, TrustEntry
from tests.memory_service.claims import SCOPE, SLOT

PEOPLE = {"anna": (STEWARD_ROLE,), "bob": ("refund_manager",)}


@dataclass(frozen=True)
class Site:
    """A bus with its streams, a key for each role, and people whose keys are trusted."""

    server: EmbeddedNats
    folder: Path
    trust: TrustDirectory

    @asynccontextmanager
    async def bus(self, role: str) -> AsyncIterator[Bus]:
        """A connection with the rights of this role and no others."""
        options = Identity.load(self.folder / "keys" / f"{role}.nk").nats_options()
        async with connect(self.server.url, name=role, options=options) as bus:
            yield bus

    @asynccontextmanager
    async def memory(self, name: str = "memory-1") -> AsyncIterator[FactView]:
        """A copy of the memory service, its own view in ``<folder>/<name>``."""
        async with self.bus("memory") as bus, committing(bus) as committer, AsyncExitStack() as stack:
            view = FactView(bus, self.view_file(name))
            memory = await stack.enter_async_context(remembering(bus, committer, self.trust, view))
            await view.projection.caught_up.wait()
            async with serving(bus, "memory", memory.verbs()):
                # nats-py's flush overtakes what is pending; a request of its own goes behind the subscription.
                await bus.last(subjects.MEMORY, subjects.fact("none", "none", "none"))
                yield view

    def view_file(self, name: str = "memory-1") -> Path:
        """The view's database of one copy."""
        return self.folder / name / "facts.db"

    def person(self, name: str) -> Identity:
        """The key of somebody who is trusted."""
        return Identity.load(self.folder / "people" / f"{name}.nk")


@asynccontextmanager
async def site_in(folder: Path) -> AsyncIterator[Site]:
    """A new bus in this folder, as ``workmesh up`` would make it."""
    roles = [role for role in ROLES if role != "publisher"]
    identities = {role: Identity.create(folder / "keys" / f"{role}.nk", role) for role in roles}
    users = [BusUser(identity.public_key, (role,)) for role, identity in identities.items()]
    root = Identity.create(folder / "people" / "root.nk", "root")
    trust = TrustDirectory(root.public_key)
    for name, has in PEOPLE.items():
        _enroll(trust, root, Identity.create(folder / "people" / f"{name}.nk", name), "person", has)
    _enroll(trust, root, Identity.create(folder / "people" / "erp.nk", "erp"), "service", (SOURCE_ROLE,))
    async with EmbeddedNats(folder / "nats", users) as server:
        site = Site(server, folder, trust)
        async with site.bus("admin") as admin:
            await streams.ensure(admin, streams.stream_specs({}, {}), replicas=1, ack_wait_s=5.0, max_ack_pending=4096)
        yield site


def _enroll(trust: TrustDirectory, root: Identity, key: Identity, kind: Any, roles: tuple[str, ...]) -> None:
    entry = TrustEntry(name=key.name, public_key=key.public_key, kind=kind, roles=roles, enrolled_at=now())
    trust.apply(sign(entry, TRUST_TYPE, root))


def word(verb: str, request: msgspec.Struct, key: Identity, *, expires_s: float = 60.0) -> Json:
    """A request, signed."""
    at = now()
    said = Word(
        verb=verb,
        request=msgspec.Raw(msgspec.json.encode(request)),
        person=key.name,
        nonce=secrets.token_hex(16),
        at=at,
        expires_at=at + timedelta(seconds=expires_s),
    )
    return sign(said, MEMORY_TYPE, key)


async def remember(bus: Bus, *claims: Claim, by: str = "test", key: Identity | None = None) -> RememberAnswer:
    """Remember over the bus."""
    request = RememberRequest(claims=claims, by=by)
    if key is not None:
        request = msgspec.structs.replace(request, signed=word("remember", request, key))
    return await service.ask(bus, "memory", "remember", request, RememberAnswer)


async def recall(bus: Bus, query: str = "", **question: Any) -> list[RecalledFact]:
    """Recall over the bus, in the scope of the tests unless another is named."""
    asked = Question(**({"scope": SCOPE} | question), query=query)
    answer = await service.ask(bus, "memory", "recall", RecallRequest(questions=(asked,)), RecallAnswer)
    return list(answer.facts[0])


async def retract(bus: Bus, *ids: str, by: str = "test", key: Identity | None = None) -> ChangeAnswer:
    """Retract over the bus."""
    request = RetractRequest(ids=ids, by=by)
    if key is not None:
        request = msgspec.structs.replace(request, signed=word("retract", request, key))
    return await service.ask(bus, "memory", "retract", request, ChangeAnswer)


async def act(bus: Bus, verb: str, request: msgspec.Struct, key: Identity) -> ChangeAnswer:
    """Say a signed word: ``resolve``, ``revoke`` or ``forget``."""
    return await service.ask(bus, "memory", verb, SignedRequest(signed=word(verb, request, key)), ChangeAnswer)


async def history(bus: Bus, slot: Slot = SLOT) -> Sequence[HistoryLine]:
    """The history of a slot over the bus."""
    return await service.ask(bus, "memory", "history", HistoryRequest(slot=slot), tuple[HistoryLine, ...])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 15 s at most."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - conditions of a projection set no event here
            await asyncio.sleep(0.01)
