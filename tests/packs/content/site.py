"""A whole site with the content pack and its systems, for tests of what the processes do together."""

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh import subjects
from mesh.canonical import task_id
from mesh.records import Context, Outcome
from packs.content.cms.process import CmsProcess
from packs.content.repository import Repository
from packs.content.sample.catalogue import brief
from packs.content.sample.generate import FOLDER
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

SOURCE = "/studio"


@dataclass
class ContentSite:
    """The site, its CMS and its repository."""

    world: World
    cms_url: str
    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def repository(self) -> Repository:
        """The published site, read anew."""
        return Repository(self.folder / "site.git")

    async def ask(self, kind: str, *, via: str = SOURCE, subject: str = "", **data: Any) -> str:
        """Publish an event; its task."""
        event_id = f"t{next(self.numbers)}"
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": via,
            "type": f"content.{kind}",
            "subject": subject or f"article/{data.get('slug', event_id)}",
            "data": msgspec.to_builtins(data),
        }
        await self.world.publish_bytes(msgspec.json.encode(event), f"content.{kind}")
        return task_id(via, event_id)

    async def record(self, kind: str, task: str, step: str = "-") -> Any:
        """Wait for a record of a task."""
        found: list[Any] = []

        async def is_there() -> bool:
            item = await self.world.journal.record(subjects.record(kind, "content", task, step))
            found.extend([item.record] if item else [])
            return bool(found)

        await until(is_there)
        return found[0]

    async def outcome(self, task: str) -> Outcome:
        """Wait for a task's outcome."""
        ending = await self.record("outcome", task)
        assert isinstance(ending, Outcome)
        return ending

    async def context(self, task: str) -> Context:
        """Wait for a task's context."""
        context = await self.record("context", task)
        assert isinstance(context, Context)
        return context

    async def done(self, kind: str, **data: Any) -> Outcome:
        """Ask for something, and wait for its end."""
        return await self.outcome(await self.ask(kind, **data))

    async def make_ready(self, slug: str, number: int = 1, **changed: Any) -> None:
        """An article that lacks nothing but its publication; raises when a step of it does not complete."""
        tasks = [
            await self.ask("brief.submitted", slug=slug, by="ann", brief=brief(slug, number, **changed)),
            await self.ask("localisation.requested", slug=slug, by="bob", locales=["de", "fr"]),
        ]
        for by, locale in (("cleo", "en"), ("dirk", "de"), ("fay", "fr")):
            word: dict[str, Any] = {"locale": locale, "revision": 1, "verdict": "approved"}
            tasks.append(await self.ask("review.given", slug=slug, by=by, **word))
        ends = [await self.outcome(task) for task in tasks]
        assert [end.status for end in ends] == ["completed"] * len(ends), ends

    def get(self, path: str) -> Any:
        """What the CMS answers."""
        return httpx2.get(f"{self.cms_url}{path}", trust_env=False).json()

    async def state(self) -> tuple[Any, dict[str, str], list[tuple[str, str]]]:
        """All that the systems hold: the CMS's log, and the files and the log of the repository."""
        return self.get("/changes"), await self.repository.files(), await self.repository.log()


@asynccontextmanager
async def content_site(folder: Path, *roles: str, env: Mapping[str, str] | None = None) -> AsyncIterator[ContentSite]:
    """A site in this folder with these roles running."""
    with CmsProcess(FOLDER, folder / "cms.db") as cms:
        own = {
            "WORKMESH_ENABLED_PACKS": "content,ledger",
            "WORKMESH_PACKS__CONTENT__CMS_URL": cms.url,
            "WORKMESH_PACKS__CONTENT__REPOSITORY": str(folder / "site.git"),
        }
        async with world_in(folder, *roles, env={**own, **(env or {})}) as world:
            yield ContentSite(world, cms.url, folder)
