"""A console over a real site: the bus, the stages, the ledger, and the console's own process."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import msgspec

from console.web.places import tokens_path, url_path
from console.web.tokens import add_token
from mesh.clock import now
from mesh.identity import Identity
from mesh.records import Json
from mesh.settings import Settings
from mesh.signing import sign
from mesh.subjects import TRUST_BUCKET
from mesh.trust import TrustEntry, enroll
from tests.ledger_pack.running import Running
from tests.ledger_pack.world import World, world_in

ROLES = ("perception", "planner", "policy", "executor", "memory")


class Browser:
    """A person at the console, without a browser's scripts: cookies, forms, and words signed here."""

    def __init__(self, url: str, person: Identity, token: str) -> None:
        self.http = httpx2.AsyncClient(base_url=url, timeout=20)
        self.person = person
        self._token = token
        self.csrf = ""

    async def sign_in(self) -> None:
        """Sign in with the token."""
        answer = await self.http.post("/signin", data={"token": self._token})
        assert answer.status_code == 303, answer.text
        await self.page("/keys")

    async def page(self, path: str, status: int = 200) -> str:
        """A page's text."""
        answer = await self.http.get(path, follow_redirects=False)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        if found := re.search(r'name="workmesh-csrf" content="([^"]+)"', answer.text):
            self.csrf = found[1]
        return answer.text

    async def form(self, path: str, **fields: str) -> httpx2.Response:
        """Send a form."""
        return await self.http.post(path, data={"csrf": self.csrf, **fields}, follow_redirects=False)

    async def give(self, kind: str, signed: Json) -> httpx2.Response:
        """Give a signed word."""
        body = msgspec.json.encode({"signed": signed})
        return await self.http.post(f"/signed/{kind}", content=body, headers={"x-csrf-token": self.csrf})

    async def say(self, kind: str, payload: msgspec.Struct, payload_type: str) -> httpx2.Response:
        """Sign and give a word."""
        return await self.give(kind, sign(payload, payload_type, self.person))


class Site:
    """A world with a console."""

    def __init__(self, world: World, console: Running, url: str) -> None:
        self.world = world
        self.console = console
        self.url = url
        self.people = dict(world.people)
        self.settings = Settings(state_dir=world.folder / "state")

    def token(self, person: str, lasts: timedelta = timedelta(hours=1)) -> str:
        """A token of a person."""
        return add_token(tokens_path(self.settings), person, lasts)

    async def enroll(self, name: str, *roles: str) -> None:
        """Enroll somebody more."""
        person = Identity.create(self.world.folder / "people" / f"{name}.nk", name)
        entry = TrustEntry(
            name=name, public_key=person.public_key, kind="person", roles=tuple(roles), enrolled_at=now()
        )
        async with self.world.connected("admin") as bus:
            await enroll(await bus.client.jetstream().key_value(TRUST_BUCKET), self.world.site.admin, entry)
        self.people[name] = person

    @asynccontextmanager
    async def browser(self, person: str) -> AsyncIterator[Browser]:
        """Somebody who is signed in."""
        browser = Browser(self.url, self.people[person], self.token(person))
        async with browser.http:
            await browser.sign_in()
            yield browser


@asynccontextmanager
async def site_in(
    folder: Path, *roles: str, govern: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Site]:
    """A site with these roles and a console, all ready; ``govern`` are files beside the ledger's policies."""
    settings = {"WORKMESH_CONSOLE__PORT": "0", **(env or {})}
    async with world_in(folder, env=settings) as world:
        await world.govern(govern or {})
        async with world.roles(*roles), world.role("console") as console:
            yield Site(world, console, url_path(Settings(state_dir=folder / "state")).read_text().strip())
