"""A site with an intake process, and a sender that asks it over HTTP."""

import hmac
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from agents.intake.tokens import add_token
from mesh import subjects
from mesh.bus import StoredMessage
from tests.ledger_pack.world import SOURCE, World, world_in

MAPPINGS = Path(__file__).parent / "mappings"
SECRET = "it is a secret"


@dataclass
class Reception:
    """A running intake process and its client."""

    world: World
    token: str
    config: Path
    process: AsyncExitStack = field(default_factory=AsyncExitStack)
    client: httpx2.AsyncClient = field(init=False)

    async def restart(self, fault: str = "") -> None:
        """Start intake, anew if it runs; ``fault`` arms fault points."""
        await self.process.aclose()
        env = {"WORKMESH_CONFIG": str(self.config)}
        await self.process.enter_async_context(self.world.role("intake", fault=fault, env=env))
        url = (self.world.site.folder / "intake" / "url").read_text(encoding="utf-8").strip()
        client = httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False)
        self.client = await self.process.enter_async_context(client)

    def mapping(self, name: str) -> Path:
        """The mapping file of a source, which a test may change."""
        return self.config.parent / f"{name}.yaml"

    async def post(self, path: str, body: bytes | Any, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """One request, with the token unless the headers say otherwise."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        given = {"authorization": f"Bearer {self.token}", **(headers or {})}
        return await self.client.post(path, content=content, headers=given)

    async def event(self, event: Any, kind: str = "application/cloudevents+json") -> httpx2.Response:
        """``POST /events`` in structured mode (or in batches)."""
        return await self.post("/events", event, {"content-type": kind})

    async def hook(self, source: str, body: Any, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """``POST /webhooks/<source>``, signed as GitHub does unless the headers hold a signature."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        signature = hmac.digest(SECRET.encode(), content, sha256).hex()
        given = {"content-type": "application/json", "x-hub-signature-256": f"sha256={signature}", **(headers or {})}
        return await self.post(f"/webhooks/{source}", content, given)

    async def events(self) -> list[StoredMessage]:
        """All that stands in ``EVENTS``."""
        found: list[StoredMessage] = []
        while page := await self.world.bus.read(subjects.EVENTS, found[-1].seq + 1 if found else 1, 256):
            found += page
        return found


def entry(event_id: str, **fields: Any) -> dict[str, Any]:
    """One CloudEvent that asks for an entry."""
    event = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": "ledger.entry.requested"}
    data = {"account": "web", "amount": 5, "kind": "post", **fields.pop("data", {})}
    return {**event, "data": data, **fields}


@asynccontextmanager
async def reception_in(folder: Path, *roles: str, more: str = "") -> AsyncIterator[Reception]:
    """A site in this folder with these roles, and intake. ``more`` are lines of TOML."""
    secrets = folder / "secrets"
    secrets.write_text(f"an older one\n{SECRET}\n", encoding="utf-8")
    names = ("desk", "payments", "form")
    for name in names:
        shutil.copy(MAPPINGS / f"{name}.yaml", folder)
    hooks = "\n".join(
        f'[intake.sources.{name}]\nkind = "webhook"\nmapping = "{folder}/{name}.yaml"\nsecrets = "{secrets}"'
        for name in names
    )
    config = folder / "intake.toml"
    config.write_text(f"[intake]\nport = 0\n{more}\n{hooks}\n", encoding="utf-8")
    async with world_in(folder, *roles) as world:
        token = add_token(world.site.folder / "intake" / "tokens", "tests")
        found = Reception(world, token, config)
        async with found.process:
            await found.restart()
            yield found
