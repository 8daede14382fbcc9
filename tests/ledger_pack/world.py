"""A site of the ledger's domain in a folder: a real bus, real processes and the ledger; each starts and dies alone."""

import itertools
import os
import secrets
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from console.words import say
from mesh import quarantine, service, subjects
from mesh.activation import Activation
from mesh.approvals import Nothing, Shown, TaskRequest, Waiting, WordAnswer, WordRequest
from mesh.bus import Bus, connect
from mesh.canonical import task_id
from mesh.clock import now
from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.journal import Committer, Journal, Message, Stored, committing
from mesh.ports import free_port
from mesh.quarantine import Quarantined
from mesh.records import Outcome, Result, Statement, Word
from mesh.settings import BusSettings, Settings
from mesh.signing import STATEMENT_TYPE, sign
from mesh.site import Site
from mesh.supervisor import ChildSpec, Supervisor
from policy_service.bundle import Bundle, BundleContents
from tests.ledger_pack.running import INSTALLED, WAIT_S, Running, installed, until
from tests.mesh.publishing import publish

ROOT = Path(__file__).parents[2]
POLICIES = Path(__file__).parent / "policies"
SOURCE = "https://ledger.example"
BUS = BusSettings(ack_wait_s=1.0)
PEOPLE = {
    "carla": ("controller",),
    "colin": ("controller",),
    "anna": ("auditor",),
    "olga": ("operator",),
    "vera": ("viewer",),
    "hedda": ("head",),
    "otto": ("owner",),
    "lea": ("learning_admin",),
    "sam": ("service_agent",),
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"entry": {"kind": "post"}, "move": {"last": 1, "note": 1}}


@dataclass
class World:
    """A site, its bus as an operator sees it, and the ledger."""

    folder: Path
    site: Site
    people: Mapping[str, Identity]
    port: int
    env: dict[str, str]
    url: str = field(init=False)
    bus: Bus = field(init=False)
    committer: Committer = field(init=False)
    journal: Journal = field(init=False)
    servers: AsyncExitStack = field(default_factory=AsyncExitStack)
    targets: AsyncExitStack = field(default_factory=AsyncExitStack)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def start_server(self) -> None:
        """Start the bus, in the same folder and on the same port each time."""
        server = EmbeddedNats(self.site.settings.state_dir / "nats", self.site.users())
        self.url = (await self.servers.enter_async_context(server)).url

    async def bootstrap(self) -> None:
        """Make the site's streams, keys and policies, and enroll its people."""
        with installed():
            await self.site.bootstrap(self.url, {person: PEOPLE[name] for name, person in self.people.items()})

    async def govern(self, files: Mapping[str, str]) -> None:
        """Put these files beside the ledger's policies, or in the place of some; for processes that start after it."""
        shipped = BundleContents.read(POLICIES, "ledger")
        found = tuple(sorted({**dict(shipped.files), **files}.items()))
        contents = BundleContents(domain="ledger", files=found)
        Bundle.load(contents)
        activation = Activation(domain="ledger", digest=contents.digest, activated_at=now(), accepted=(shipped.digest,))
        async with self.connected("admin") as bus:
            await publish(bus, self.site.admin, contents, activation)

    async def start_target(self) -> None:
        """Start the ledger, on the same port and file each time."""
        argv = ("-m", "tests.ledger_pack.target", "--db", str(self.folder / "ledger.db"), "--port", str(self.port))
        await self.targets.enter_async_context(self._supervised({"ledger": (sys.executable, *argv)}, {}))

    @asynccontextmanager
    async def bus_away(self) -> AsyncIterator[None]:
        """No bus while the block runs."""
        await self.servers.aclose()
        try:
            yield
        finally:
            await self.start_server()

    @asynccontextmanager
    async def target_away(self) -> AsyncIterator[None]:
        """No ledger while the block runs."""
        await self.targets.aclose()
        try:
            yield
        finally:
            await self.start_target()

    @asynccontextmanager
    async def role(
        self, name: str, instance: str = "1", *, fault: str = "", env: Mapping[str, str] | None = None
    ) -> AsyncIterator[Running]:
        """One process of a role, ready; ``fault`` arms fault points in all its lives."""
        async with self.roles(name, instance=instance, env={"WORKMESH_FAULTPOINT": fault, **(env or {})}) as (running,):
            yield running

    @asynccontextmanager
    async def roles(
        self, *names: str, instance: str = "1", env: Mapping[str, str] | None = None
    ) -> AsyncIterator[list[Running]]:
        """A process of each role, all ready."""
        argvs = {f"{name}-{instance}": (sys.executable, "-m", "console.main", "run", name) for name in names}
        async with self._supervised(argvs, env or {}) as found:
            yield found

    @asynccontextmanager
    async def _supervised(
        self, argvs: Mapping[str, tuple[str, ...]], env: Mapping[str, str]
    ) -> AsyncIterator[list[Running]]:
        specs = [
            ChildSpec(name, argv, self.folder / f"{name}.log", {**self.env, "WORKMESH_ROLE_INSTANCE": name, **env})
            for name, argv in argvs.items()
        ]
        async with Supervisor(specs, self.folder / f"s{next(self.numbers)}") as supervisor:
            await supervisor.wait_ready(WAIT_S)
            yield [Running(supervisor.children[spec.name]) for spec in specs]

    @asynccontextmanager
    async def connected(self, name: str) -> AsyncIterator[Bus]:
        """The bus under the key of a role: what somebody who stole it could do."""
        options = self.site.identity(name).nats_options()
        async with connect(self.url, name=name, options=options) as bus:
            yield bus

    async def publish(self, event_id: str, event_type: str = "entry", *, entity: str = "", **data: Any) -> str:
        """Publish one event, durably; its task."""
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": SOURCE,
            "type": f"ledger.{event_type}.requested",
            "subject": entity or event_id,
            "data": {"account": "a", "amount": 100, **_DEFAULTS[event_type], **data},
        }
        await self.publish_bytes(msgspec.json.encode(event), f"ledger.{event_type}.requested")
        return task_id(SOURCE, event_id)

    async def publish_bytes(self, data: bytes, event_type: str = "ledger.entry.requested") -> int:
        """Publish whatever it is as an event; its sequence."""
        (seq,) = await self.committer.commit([Message(subjects.event(event_type), data, expected=None)])
        return seq

    async def record(self, kind: str, task: str, step: str = "-") -> Stored:
        """Wait for a record of a task."""
        subject = subjects.record(kind, "ledger", task, step)
        found: list[Stored] = []

        async def is_there() -> bool:
            item = await self.journal.record(subject)
            found.extend([item] if item else [])
            return bool(found)

        await until(is_there)
        return found[0]

    async def outcome(self, task: str) -> Outcome:
        """Wait for a task's outcome."""
        ending = (await self.record("outcome", task)).record
        assert isinstance(ending, Outcome)
        return ending

    async def result(self, task: str, step: str = "enter") -> Result:
        """Wait for the result of a step."""
        result = (await self.record("result", task, step)).record
        assert isinstance(result, Result)
        return result

    async def count(self, kind: str, task: str) -> int:
        """How many records of a kind were ever written of a task."""
        seq, found = 1, 0
        while page := await self.bus.read(subjects.JOURNAL, seq, 256, f"task.{kind}.ledger.{task}.*"):
            found += len(page)
            seq = page[-1].seq + 1
        return found

    async def quarantined(self, stage: str, text: str, seq: int = 0) -> Quarantined:
        """Wait for an item of a stage whose detail holds this text, and which was at ``seq`` if that is given."""
        found: list[Quarantined] = []

        async def is_there() -> bool:
            items = await quarantine.waiting(self.bus)
            found.extend(i for i in items if i.stage == stage and text in i.detail and seq in (0, i.seq))
            return bool(found)

        await until(is_there)
        return found[0]

    async def settled(self, stage: str, stream: str = subjects.JOURNAL) -> None:
        """Wait until a stage has nothing left to do."""

        async def is_idle() -> bool:
            info = await self.bus.api(f"CONSUMER.INFO.{stream}.{stage}")
            return bool(info["num_pending"] == 0 and info["num_ack_pending"] == 0)

        await until(is_idle)

    def keeps(self, task: str, instance: str = "executor-1") -> bool:
        """Whether a process keeps a result of a task on its own disk."""
        path = self.folder / "state" / "state" / instance / "checkpoint.db"
        with sqlite3.connect(path) as database:
            rows = database.execute("SELECT subject FROM outbox").fetchall()
        database.close()
        return any(task in subject for (subject,) in rows)

    def hold(self, kind: str) -> Path:
        """Have the ledger hold back its answers of a kind until this file is removed."""
        path = self.folder / f"{kind}.hold"
        path.touch()
        return path

    def applied(self, task: str = "", account: str = "") -> list[tuple[str, str, int]]:
        """What the ledger's own log says was applied, for a task, on an account or at all: kind, key, amount."""
        query = "SELECT kind, key, amount FROM applied WHERE ? IN ('', account) ORDER BY seq"
        with sqlite3.connect(self.folder / "ledger.db") as database:
            rows = database.execute(query, (account,)).fetchall()
        database.close()
        return [row for row in rows if f"-{task}" in row[1]]

    def called(self, task: str) -> list[tuple[str, str]]:
        """Each call that the ledger was sent for a task: its kind, and the ``traceparent`` that came with it."""
        with sqlite3.connect(self.folder / "ledger.db") as database:
            rows = database.execute("SELECT key, kind, traceparent FROM called ORDER BY rowid").fetchall()
        database.close()
        return [(kind, trace) for key, kind, trace in rows if f"-{task}" in key]

    def freeze(self, account: str) -> None:
        """Freeze an account, as the ledger's own people would."""
        with sqlite3.connect(self.folder / "ledger.db") as database:
            database.execute("INSERT INTO frozen VALUES (?)", (account,))
        database.close()

    async def waiting(self) -> dict[str, Waiting]:
        """What waits for a person, by task."""
        items = await service.ask(self.bus, "policy", "list", Nothing(), list[Waiting], timeout_s=10)
        return {item.task_id: item for item in items}

    async def waits(self, task: str) -> Waiting:
        """Wait until a task waits for a person."""
        found: list[Waiting] = []

        async def is_there() -> bool:
            found.extend(item for name, item in (await self.waiting()).items() if name == task)
            return bool(found)

        await until(is_there)
        return found[0]

    async def shown(self, task: str) -> Shown:
        """What a person is shown of a task."""
        return await service.ask(self.bus, "policy", "show", TaskRequest(task_id=task), Shown, timeout_s=10)

    @property
    def thief(self) -> Identity:
        """Somebody whom nobody has enrolled."""
        path = self.folder / "people" / "thief.nk"
        return Identity.load(path) if path.exists() else Identity.create(path, "thief")

    def statement(self, shown: Shown, word: Word, person: str, role: str) -> Statement:
        """What a person says of what is shown."""
        return Statement(
            task_id=shown.waiting.task_id,
            plan_digest=shown.plan_digest,
            purpose=shown.waiting.purpose,
            word=word,
            role=role,
            person=person,
            nonce=secrets.token_hex(8),
            at=now(),
            expires_at=now() + timedelta(minutes=5),
            step=shown.waiting.step,
        )

    async def give(self, statement: Statement, signer: Identity) -> WordAnswer:
        """Give a signed statement to the policy service; raises ``ServiceError``."""
        request = WordRequest(signed=sign(statement, STATEMENT_TYPE, signer))
        return await service.ask(self.bus, "policy", "say", request, WordAnswer, timeout_s=10)

    async def say_on(self, shown: Shown, word: Word, person: str = "carla", role: str = "controller") -> WordAnswer:
        """A person's word on what was shown before; raises ``ServiceError``."""
        return await say(self.bus, self.people[person], shown, role, word)

    async def say(self, task: str, word: Word, person: str = "carla", role: str = "controller") -> WordAnswer:
        """A person's word on what is shown now; raises ``ServiceError``."""
        return await say(self.bus, self.people[person], await self.shown(task), role, word)


@asynccontextmanager
async def world_in(
    folder: Path, *roles: str, bus: BusSettings = BUS, env: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    """A site in this folder, with the ledger and these roles running."""
    with installed():
        site = Site(Settings(state_dir=folder / "state", bus=bus))
    people = {name: Identity.create(folder / "people" / f"{name}.nk", name) for name in PEOPLE}
    port = free_port()
    own = {
        "WORKMESH_STATE_DIR": str(folder / "state"),
        "WORKMESH_BUS__ACK_WAIT_S": str(bus.ack_wait_s),
        "WORKMESH_METRICS__PORT": "-1",
        "WORKMESH_ENABLED_PACKS": "ledger,retail",
        "WORKMESH_PACKS__LEDGER__URL": f"http://127.0.0.1:{port}",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(INSTALLED))),
    }
    words_alone = {"WORKMESH_MEMORY__EMBEDDER": "none"}  # the model has tests of its own
    world = World(folder, site, people, port, {**own, **words_alone, **(env or {})})
    async with world.servers:
        await world.start_server()
        await world.bootstrap()
        async with world.connected("operator") as world.bus, committing(world.bus) as world.committer, world.targets:
            world.journal = Journal(world.bus, world.committer)
            await world.start_target()
            async with world.roles(*roles):
                yield world
