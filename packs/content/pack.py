"""The content pack: briefs become texts, texts are edited, brought into other languages, reviewed and published."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesh.pack import Pack
from mesh.tools import Tool
from packs.content.applied import cms_log, commits
from packs.content.client import Cms
from packs.content.events import EVENTS
from packs.content.knowledge import remembered
from packs.content.point import read_facts
from packs.content.reads import CMS, SITE_TARGET, Site
from packs.content.repository import Repository
from packs.content.tools import make_tools

FOLDER = Path(__file__).parent


class ContentOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings under ``[packs.content]``: where the CMS is, and the bare git repository of the site."""

    cms_url: str = "http://127.0.0.1:8098"
    repository: str = "./.workmesh/site.git"

    @property
    def folder(self) -> Path:
        """The repository's folder."""
        return Path(self.repository).expanduser()

    def __post_init__(self) -> None:
        url = urlsplit(self.cms_url)
        if "@" in url.netloc:
            raise ValueError("cms_url: no user or password in a URL: settings are shown")
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError(f"cms_url: expected http://host, not {self.cms_url!r}")


def tools(_: ContentOptions) -> tuple[Tool, ...]:
    """The pack's tools."""
    return make_tools()


@asynccontextmanager
async def connect(options: ContentOptions) -> AsyncIterator[Mapping[str, Any]]:
    """What the tools and the information point talk to; nothing is sent or written yet."""
    repository = Repository(options.folder)
    async with Cms.open(options.cms_url) as cms:
        yield {CMS: cms, SITE_TARGET: Site(cms, repository)}


pack = Pack(
    name="content",
    version="0.1.0",
    options=ContentOptions,
    events=EVENTS,
    tools=tools,
    connect=connect,
    playbooks=FOLDER / "playbooks",
    policies=FOLDER / "policies",
    prompts=FOLDER / "prompts",
    sources=FOLDER / "sources",
    facts=read_facts,
    applied={CMS: cms_log, SITE_TARGET: commits},
    remembers=remembered,
)
