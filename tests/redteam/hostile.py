"""A site whose planner is wholly compromised: its key writes any plan, with every digest and key in order."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh import subjects
from mesh.canonical import effect_key, task_id
from mesh.journal import Committer, Message, Write, committing, message_of
from mesh.plans import plan_digest
from mesh.records import Call, Context, Header, Outcome, Plan, Step
from packs.retail.client import Shop
from packs.retail.shop.process import ShopProcess
from tests.ledger_pack.running import until
from tests.ledger_pack.world import ROOT, World, world_in
from tests.packs.retail.storefront import plan_for

SAMPLE = ROOT / "packs" / "retail" / "sample"
SOURCE = "https://redteam.example"

NO_WIRE = """
@id("no-wire") @reason("nothing is wired here")
forbid (principal, action, resource == Tool::"ledger.wire");
"""
LIMITS = """
- {id: account-day, per: account, window: P1D, amount: 50000, over: deny}
"""


@dataclass
class Hostile:
    """The site, the shop's own log, and what the thief writes."""

    world: World
    shop_url: str
    outbox: Path
    thief: Committer
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def asked(self, kind: str, data: Mapping[str, Any], domain: str = "retail") -> Context:
        """A customer asks for something; what perception makes of it."""
        event_id = f"a{next(self.numbers)}"
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": SOURCE,
            "type": kind,
            "subject": event_id,
            "data": data,
        }
        await self.world.publish_bytes(msgspec.json.encode(event), kind)
        record = await self.record("context", task_id(SOURCE, event_id), domain)
        assert isinstance(record, Context)
        return record

    async def record(self, kind: str, task: str, domain: str = "retail", step: str = "-") -> Any:
        """Wait for a record of a task."""
        found: list[Any] = []

        async def is_there() -> bool:
            item = await self.world.journal.record(subjects.record(kind, domain, task, step))
            found.extend([item.record] if item else [])
            return bool(found)

        await until(is_there)
        return found[0]

    async def outcome(self, task: str, domain: str = "retail") -> Outcome:
        """Wait for a task's outcome."""
        ending = await self.record("outcome", task, domain)
        assert isinstance(ending, Outcome)
        return ending

    async def honest_plan(self, context: Context) -> Plan:
        """What an honest planner would have written."""
        async with Shop.open(self.shop_url) as shop:
            plan = await plan_for(context, {"shop": shop})
        header = msgspec.structs.replace(plan.header, writer="planner/stolen")
        return msgspec.structs.replace(plan, header=header)

    async def write(self, plan: Plan) -> int:
        """Put a plan on record with the planner's key, over whatever stands there; its sequence."""
        return await self.write_bytes(subjects.of(plan), message_of(Write(plan)).data)

    async def write_bytes(self, subject: str, data: bytes) -> int:
        """Put whatever it is on record with the planner's key; its sequence."""
        (seq,) = await self.thief.commit([Message(subject, data, None)])
        return seq

    def changes(self) -> list[Any]:
        """The shop's own log of what was changed."""
        found: list[Any] = httpx2.get(f"{self.shop_url}/changes", trust_env=False).json()["changes"]
        return found

    def letters(self) -> list[str]:
        """What was sent to customers."""
        return [path.read_text() for path in sorted(self.outbox.rglob("*")) if path.is_file()]

    def applied(self) -> list[tuple[str, str, int]]:
        """The ledger's own log."""
        return self.world.applied()


@asynccontextmanager
async def hostile_in(folder: Path) -> AsyncIterator[Hostile]:
    """A site in this folder, with the shop and the ledger, and no planner but the thief."""
    outbox = folder / "outbox"
    outbox.mkdir()
    with ShopProcess(SAMPLE, folder / "shop.db") as shop:
        env = {
            "WORKMESH_PACKS__RETAIL__SHOP_URL": shop.url,
            "WORKMESH_PACKS__RETAIL__OUTBOX_DIR": str(outbox),
            "WORKMESH_MEMORY__EMBEDDER": "none",
        }
        async with world_in(folder, "perception", env=env) as world:
            await world.govern({"more.cedar": NO_WIRE, "limits.yaml": LIMITS})
            async with (
                world.roles("policy", "executor", "memory"),
                world.connected("planner") as bus,
                committing(bus) as thief,
            ):
                yield Hostile(world, shop.url, outbox, thief)


def sealed(plan: Plan, steps: Sequence[Step], **changed: Any) -> Plan:
    """The plan with these steps, and with every digest and effect key as the runtime would make it."""
    head = plan.header
    keyed = tuple(msgspec.structs.replace(step, effect_key=effect_key(head.task_id, step.id)) for step in steps)
    digest = plan_digest(head.task_id, head.domain, keyed)
    return msgspec.structs.replace(plan, steps=keyed, digest=digest, **changed)


def args(**values: Any) -> msgspec.Raw:
    """Arguments as JSON."""
    return msgspec.Raw(json.dumps(values).encode())


def changed(step: Step, **values: Any) -> Step:
    """The step with other arguments."""
    before = msgspec.json.decode(step.call.args, type=dict[str, Any])
    return called(step, step.call.tool, args(**(before | values)))


def called(step: Step, tool: str, arguments: msgspec.Raw) -> Step:
    """The step with another call."""
    return msgspec.structs.replace(step, call=Call(tool=tool, args=arguments))


def undone_by(step: Step, tool: str, arguments: msgspec.Raw) -> Step:
    """The step with another compensation."""
    return msgspec.structs.replace(step, compensation=Call(tool=tool, args=arguments))


def ledger_plan(context: Context, *steps: Step) -> Plan:
    """A plan in the ledger's domain."""
    header = Header(
        task_id=context.header.task_id,
        domain="ledger",
        causation=context.header.causation,
        writer="planner/stolen",
        at=context.header.at,
    )
    return sealed(Plan(header=header, playbook="ledger.post", playbook_digest="sha256:0", digest=""), steps)


def entry(name: str, tool: str, amount: int, account: str = "a", **more: Any) -> Step:
    """One step on the ledger."""
    call = Call(tool=tool, args=args(account=account, amount=amount))
    return Step(id=name, call=call, effect_key="", **more)


Forge = Callable[[Plan], Plan]
"""What the thief makes of an honest plan."""
