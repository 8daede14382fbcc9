"""A site of the outbreak pack whose planner is wholly compromised: its key writes any plan. All else is real."""

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from console.words import say
from mesh import subjects
from mesh.approvals import Shown, WordAnswer
from mesh.canonical import task_id
from mesh.clock import now
from mesh.identity import Identity
from mesh.journal import Committer, Message, Write, committing, message_of
from mesh.records import Context, Outcome, Plan, Word
from mesh.trust import TrustEntry, enroll
from packs.outbreak.pack import OutbreakOptions, connect
from packs.outbreak.registry.process import RegistryProcess
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in
from tests.packs.outbreak.office import SAMPLE, number, plan_for

PEOPLE = {"erna": ("epidemiologist",), "dov": ("duty_officer",), "both": ("duty_officer", "epidemiologist")}


@dataclass
class OutbreakSite:
    """The site, its registry, and what the thief of the planner's key writes."""

    world: World
    url: str
    thief: Committer
    systems: Mapping[str, Any]
    people: dict[str, Identity]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def happens(self, kind: str, data: Mapping[str, Any], source: str = "/sources/cdc") -> Context:
        """An event comes in; what perception makes of it."""
        event_id = f"o{next(self.numbers)}"
        content = {"specversion": "1.0", "id": event_id, "source": source, "type": kind, "subject": event_id}
        await self.world.publish_bytes(msgspec.json.encode({**content, "data": dict(data)}), kind)
        context = await self.record("context", task_id(source, event_id))
        assert isinstance(context, Context)
        return context

    async def record(self, kind: str, task: str) -> Any:
        """Wait for a record of a task."""
        found: list[Any] = []

        async def is_there() -> bool:
            item = await self.world.journal.record(subjects.record(kind, "outbreak", task, "-"))
            found.extend([item.record] if item else [])
            return bool(found)

        await until(is_there)
        return found[0]

    async def honest(self, context: Context) -> Plan:
        """What an honest planner would have written."""
        plan = await plan_for(context, self.systems)
        return msgspec.structs.replace(plan, header=msgspec.structs.replace(plan.header, writer="planner/stolen"))

    async def writes(self, plan: Plan) -> None:
        """Put a plan on record with the planner's key."""
        await self.thief.commit([Message(subjects.of(plan), message_of(Write(plan)).data, None)])

    async def outcome(self, task: str) -> Outcome:
        """Wait for a task's end."""
        ending = await self.record("outcome", task)
        assert isinstance(ending, Outcome)
        return ending

    async def told(self, place: str, week: str, count: int, **more: Any) -> Outcome:
        """A number comes in, and an honest plan is made for it."""
        source = more.get("source", "cdc")
        data = number(place, week, count, **more)
        context = await self.happens("outbreak.counts.reported", data, f"/sources/{source}")
        await self.writes(await self.honest(context))
        return await self.outcome(context.header.task_id)

    async def says(self, shown: Shown, person: str, role: str) -> WordAnswer:
        """A person approves what was shown."""
        return await say(self.world.bus, self.people[person], shown, role, Word.APPROVE)

    def changes(self, kind: str = "") -> list[dict[str, Any]]:
        """The registry's own log."""
        found = httpx2.get(f"{self.url}/changes", trust_env=False).json()["changes"]
        return [change for change in found if kind in ("", change["kind"])]

    def alerts(self) -> list[str]:
        """The alerts that the registry has."""
        return [line["alert"] for line in httpx2.get(f"{self.url}/export", trust_env=False).json()["alerts"]]


@asynccontextmanager
async def outbreak_site_in(folder: Path) -> AsyncIterator[OutbreakSite]:
    """A site in this folder with a registry on the sample's history, and no planner but the thief."""
    with RegistryProcess(SAMPLE, folder / "registry.db") as registry:
        env = {"WORKMESH_PACKS__OUTBREAK__REGISTRY_URL": registry.url, "WORKMESH_ENABLED_PACKS": "ledger,outbreak"}
        async with world_in(folder, "perception", "policy", "executor", "memory", env=env) as world:
            people = {name: Identity.create(folder / "office" / f"{name}.nk", name) for name in PEOPLE}
            async with world.connected("admin") as bus:
                bucket = await bus.client.jetstream().key_value("TRUST")
                for name, identity in people.items():
                    entry = TrustEntry(
                        name=name,
                        public_key=identity.public_key,
                        kind="person",
                        roles=PEOPLE[name],
                        enrolled_at=now(),
                    )
                    await enroll(bucket, world.site.admin, entry)
            async with (
                world.connected("planner") as bus,
                committing(bus) as thief,
                connect(OutbreakOptions(registry_url=registry.url)) as systems,
            ):
                yield OutbreakSite(world, registry.url, thief, systems, people)
