"""A site: the keys, trust, streams and policy bundles that a mesh on one state folder stands on.

The rule: making a site twice changes nothing; keys are made once, and only their owner can read them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import structlog

from mesh import streams, subjects
from mesh.bus import Bus, connect
from mesh.clock import now
from mesh.identity import Identity
from mesh.pack import Pack, load_packs
from mesh.permissions import BusUser
from mesh.settings import BusSettings, Settings
from mesh.trust import TrustEntry, enroll

log = structlog.get_logger(__name__)

ADMIN = "admin"
OPERATOR = "operator"
MODEL = "model"
INTAKE = "intake"
ROLES = ("perception", "planner", "policy", "executor", "learner", "memory", "auditor")
"""The roles that every site runs."""
PROCESSES = (*ROLES, MODEL, INTAKE)
"""All roles; the last two run only where models are asked, and where something comes in but by the bus."""
CONSOLE = "console"
"""What people look at and speak through: it decides nothing, and signs for nobody."""
TRACER = "tracer"
"""What makes spans of the journal and sends them to a collector; it runs only where there is one."""
_USERS = (ADMIN, *PROCESSES, OPERATOR, CONSOLE, TRACER, "publisher")
GROUP = "workmesh.bootstrap"

Bootstrap = Callable[[Bus, Identity, Mapping[str, Pack]], Awaitable[None]]


RENEWABLE = (*PROCESSES, OPERATOR, CONSOLE, TRACER, "publisher")
"""The names whose keys can be changed; that of ``admin`` is the root of all trust."""


class Site:
    """The keys of a state folder, made where they are missing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.state_dir
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._identities = {name: _load_or_create(self.keys / f"{name}.nk", name) for name in _USERS}
        root = self.folder / "trust_root"
        if not root.exists():
            root.write_text(self.admin.public_key + "\n", encoding="utf-8")

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.folder / "keys"

    @property
    def admin(self) -> Identity:
        """The root of trust of this site."""
        return self._identities[ADMIN]

    def identity(self, name: str) -> Identity:
        """The identity of a role, operator or publisher."""
        return self._identities[name]

    def users(self) -> tuple[BusUser, ...]:
        """Who may connect to the bus, each with the subjects of its role."""
        found = (BusUser(identity.public_key, (name,), name) for name, identity in self._identities.items())
        return tuple(user for user in found if not self.is_cut_off(user.name))

    def is_cut_off(self, name: str) -> bool:
        """Whether the key of this name has lost the bus; a new key has it again."""
        try:
            return self._cut_off(name).read_text(encoding="utf-8").strip() == self.identity(name).public_key
        except OSError:
            return False

    def cut_off(self, name: str) -> None:
        """Take the bus away from the key of this name: a running ``workmesh up`` sees it, and so does the next."""
        self._cut_off(name).write_text(self.identity(name).public_key + "\n", encoding="utf-8")

    def renew(self, name: str) -> tuple[str, Identity]:
        """A new key for this name; the public key it had, and the new identity."""
        old = self.identity(name).public_key
        self._identities[name] = Identity.replace(self.keys / f"{name}.nk", name)
        return old, self._identities[name]

    def _cut_off(self, name: str) -> Path:
        return self.keys / f"{name}.cut_off"

    async def bootstrap(self, url: str, people: Mapping[Identity, Sequence[str]] | None = None) -> None:
        """Make streams, buckets and consumers, enroll processes and people, publish the packs' policy bundles."""
        bus_settings = self.settings.bus
        options, tls = self.admin.nats_options(), bus_settings.tls
        async with connect(url, name="admin/bootstrap", options=options, tls=tls, request_timeout_s=10) as bus:
            await streams.ensure(
                bus,
                stream_specs(bus_settings),
                replicas=bus_settings.replicas,
                ack_wait_s=bus_settings.ack_wait_s,
                max_ack_pending=bus_settings.max_ack_pending,
            )
            await self._enroll(bus, people or {})
            packs = load_packs()
            for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
                step: Bootstrap = point.load()
                await step(bus, self.admin, packs)

    async def _enroll(self, bus: Bus, people: Mapping[Identity, Sequence[str]]) -> None:
        entries = [entry_of(self.identity(name)) for name in (*PROCESSES, OPERATOR, CONSOLE, TRACER)]
        entries.append(_entry(self.admin, "service", ("policy_admin",)))
        entries += [_entry(person, "person", tuple(roles)) for person, roles in people.items()]
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        for entry in entries:
            known = await bus.last(f"KV_{subjects.TRUST_BUCKET}", f"$KV.{subjects.TRUST_BUCKET}.{entry.name}")
            if known is None or not known.data:
                await enroll(bucket, self.admin, entry)


def entry_of(identity: Identity) -> TrustEntry:
    """How the key of a role or the operator is enrolled."""
    return _entry(identity, "agent" if identity.name in PROCESSES else "service", (identity.name,))


def _entry(identity: Identity, kind: Literal["agent", "person", "service"], roles: tuple[str, ...]) -> TrustEntry:
    return TrustEntry(name=identity.name, public_key=identity.public_key, kind=kind, roles=roles, enrolled_at=now())


def stream_specs(settings: BusSettings) -> tuple[streams.StreamSpec, ...]:
    """The streams with the ages and sizes of the settings."""
    names = {name: name.lower() for name in streams.STREAM_NAMES}
    ages = {name: float(getattr(settings, f"{low}_max_age_s")) for name, low in names.items()}
    sizes = {name: int(getattr(settings, f"{low}_max_bytes")) for name, low in names.items()}
    return streams.stream_specs(ages, sizes)


def _load_or_create(path: Path, name: str) -> Identity:
    return Identity.load(path) if path.exists() else Identity.create(path, name)
