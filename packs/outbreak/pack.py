"""The outbreak pack: case counts and bulletins come in, detectors must agree, two people approve, an alert goes out."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from mesh.pack import Pack
from mesh.tools import Tool
from packs.outbreak.applied import registry_log
from packs.outbreak.client import RegistryClient
from packs.outbreak.events import EVENTS
from packs.outbreak.point import COVERS, RULES, read_facts
from packs.outbreak.tools import REGISTRY, make_tools
from packs.outbreak.verdict import Rules

FOLDER = Path(__file__).parent


class OutbreakOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings under ``[packs.outbreak]``.

    ``rules`` say when detectors agree. An alert that stands covers its series for ``covers_weeks``: no other is
    published meanwhile.
    """

    registry_url: str = "http://127.0.0.1:8098"
    rules: Rules = Rules()
    covers_weeks: Annotated[int, msgspec.Meta(ge=0, le=52)] = 8

    def __post_init__(self) -> None:
        url = urlsplit(self.registry_url)
        if "@" in url.netloc:
            raise ValueError("registry_url: no user or password in a URL: settings are shown")
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError(f"registry_url: expected http://host, not {self.registry_url!r}")


def tools(options: OutbreakOptions) -> tuple[Tool, ...]:
    """The pack's tools, as the options have them."""
    return make_tools(options.rules, options.covers_weeks)


@asynccontextmanager
async def connect(options: OutbreakOptions) -> AsyncIterator[Mapping[str, Any]]:
    """What the tools and the information point talk to; nothing is sent yet."""
    async with RegistryClient.open(options.registry_url) as registry:
        yield {REGISTRY: registry, RULES: options.rules, COVERS: options.covers_weeks}


pack = Pack(
    name="outbreak",
    version="0.1.0",
    options=OutbreakOptions,
    events=EVENTS,
    tools=tools,
    connect=connect,
    playbooks=FOLDER / "playbooks",
    policies=FOLDER / "policies",
    prompts=FOLDER / "prompts",
    sources=FOLDER / "sources",
    facts=read_facts,
    applied={REGISTRY: registry_log},
)
