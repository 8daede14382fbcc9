"""A real bus and running copies of the memory service, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from memory_service.requests import HistoryRequest
from memory_service.service import Memory
from memory_service.store import FactStore
from memory_service.view import FactView
from mesh import service, streams, subjects
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats
from mesh.facts import FactEvent, ForgetRequest, Provenance, RecalledFact, RecallRequest, RememberRequest
from mesh.identity import Identity
from mesh.journal import committing
from mesh.permissions import ROLES, BusUser
from mesh.projection import following
from mesh.service import serving

NULL = msgspec.Raw(b"null")


@dataclass(frozen=True)
class Site:
    """A bus with its streams, and a key for each role."""

    server: EmbeddedNats
    folder: Path

    @asynccontextmanager
    async def bus(self, role: str) -> AsyncIterator[Bus]:
        """A connection with the rights of this role and no others."""
        options = Identity.load(self.folder / "keys" / f"{role}.nk").nats_options()
        async with connect(self.server.url, name=role, options=options) as bus:
            yield bus

    @asynccontextmanager
    async def memory(self, name: str = "memory-1") -> AsyncIterator[FactView]:
        """A copy of the memory service, its own view in ``<folder>/<name>``."""
        async with self.bus("memory") as bus, committing(bus) as committer:
            view = FactView(bus, self.view_file(name))
            try:
                async with following(view.projection) as projection:
                    await projection.caught_up.wait()
                    async with serving(bus, "memory", Memory(FactStore(bus, committer), view).verbs()):
                        # nats-py's flush overtakes what is pending; a request of its own goes behind the subscription.
                        await bus.last(subjects.MEMORY, subjects.fact("none", "none"))
                        yield view
            finally:
                view.close()

    def view_file(self, name: str = "memory-1") -> Path:
        """The view's database of one copy."""
        return self.folder / name / "facts.db"


@asynccontextmanager
async def site_in(folder: Path) -> AsyncIterator[Site]:
    """A new bus in this folder, as ``workmesh up`` would make it."""
    roles = [role for role in ROLES if role != "publisher"]
    identities = {role: Identity.create(folder / "keys" / f"{role}.nk", role) for role in roles}
    users = [BusUser(identity.public_key, (role,)) for role, identity in identities.items()]
    async with EmbeddedNats(folder / "nats", users) as server:
        site = Site(server, folder)
        async with site.bus("admin") as admin:
            await streams.ensure(admin, streams.stream_specs({}, {}), replicas=1, ack_wait_s=5.0, max_ack_pending=4096)
        yield site


def provenance(source: str = "a test", person: str = "") -> Provenance:
    """Where a fact of a test comes from."""
    return Provenance(writer="test/1", source=source, person=person)


async def remember(
    bus: Bus, scope: str, key: str, text: str, *, value: msgspec.Raw = NULL, as_of: int = 0, source: str = "a test"
) -> FactEvent:
    """Remember over the bus."""
    said = provenance(source)
    request = RememberRequest(scope=scope, key=key, text=text, provenance=said, value=value, as_of=as_of)
    return await service.ask(bus, "memory", "remember", request, FactEvent)


async def recall(bus: Bus, scope: str, query: str = "", *, key: str = "", limit: int = 50) -> list[RecalledFact]:
    """Recall over the bus."""
    request = RecallRequest(scope=scope, query=query, key=key, limit=limit)
    return list(await service.ask(bus, "memory", "recall", request, tuple[RecalledFact, ...]))


async def forget(bus: Bus, scope: str, key: str, person: str = "") -> FactEvent:
    """Forget over the bus."""
    request = ForgetRequest(scope=scope, key=key, provenance=provenance("a request", person))
    return await service.ask(bus, "memory", "forget", request, FactEvent)


async def history(bus: Bus, scope: str, key: str, limit: int = 50) -> list[FactEvent]:
    """The versions of a fact over the bus."""
    request = HistoryRequest(scope=scope, key=key, limit=limit)
    return list(await service.ask(bus, "memory", "history", request, tuple[FactEvent, ...]))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 15 s at most."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - conditions of a projection set no event here
            await asyncio.sleep(0.01)
