"""Policies in force, their text, and what a shadow would have said of past tasks; nothing here changes any."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.replay import payload_of
from console.web.desk import Desk
from console.web.security import DeniedError, Viewer, read_form, require_csrf
from mesh.activation import Standing, bundle_key, recorded, standing
from mesh.errors import TerminalError
from mesh.permissions import kv_stream
from mesh.records import text
from mesh.replay import Recorded, load_replays
from mesh.subjects import POLICY_BUCKET

_COMPARED = 50
_RECORD_SHOWN = 20


class _Contents(msgspec.Struct, frozen=True):
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Differing:
    """A past task that the shadow decides otherwise."""

    task_id: str
    what: str
    recorded: str
    shadow: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of trying a shadow on past tasks."""

    tasks: int
    differing: list[Differing] = field(default_factory=list)


def routes(desk: Desk, domains: Sequence[str]) -> list[Route]:
    """The routes of this page group."""
    own = Policies(desk, domains)
    return [
        desk.route("/policies", own.list_),
        desk.route("/policies/{domain}", own.one),
        desk.route("/policies/{domain}", own.compare, "POST"),
    ]


class Policies:
    """The endpoints."""

    def __init__(self, desk: Desk, domains: Sequence[str]) -> None:
        self._desk = desk
        self._domains = domains
        self._comparing = asyncio.Semaphore(1)

    async def list_(self, request: Request, viewer: Viewer) -> Response:
        """What is in force, by domain."""
        found = [(domain, await standing(self._desk.bus, domain)) for domain in self._domains]
        return self._desk.page(
            "policies.html.jinja", request, viewer, title="Policies", live="governance", domains=found
        )

    async def one(self, request: Request, viewer: Viewer) -> Response:
        """One domain."""
        return await self._page(request, viewer)

    async def compare(self, request: Request, viewer: Viewer) -> Response:
        """One domain, with the shadow tried on the newest tasks."""
        require_csrf(viewer, (await read_form(request)).get("csrf", ""))
        domain, active = await self._standing(request)
        if not active.activation.shadow:
            raise DeniedError(409, f"no bundle is tried beside the one in force in {domain}")
        bundle = await self._bundle(domain, active.activation.shadow)
        tasks = self._desk.index.find(domain=domain, limit=_COMPARED)
        compared = Compared(len(tasks))
        async with self._comparing:
            for task in tasks:
                items = await self._desk.journal.history(task.task_id, domain)
                again = await asyncio.to_thread(load_replays()["policy"], Recorded(items, [bundle]))
                compared.differing.extend(
                    Differing(task.task_id, f"{each.stage}: {each.field}", text(each.recorded), text(each.replayed))
                    for each in again.differences
                )
        return await self._page(request, viewer, compared)

    async def _page(self, request: Request, viewer: Viewer, compared: Compared | None = None) -> Response:
        domain, active = await self._standing(request)
        contents = msgspec.json.decode(await self._bundle(domain, active.activation.digest), type=_Contents)
        record = (await recorded(self._desk.bus, domain))[-_RECORD_SHOWN:][::-1]
        return self._desk.page(
            "policy.html.jinja",
            request,
            viewer,
            title=f"Policies of {domain}",
            live="",
            domain=domain,
            active=active.activation,
            files=contents.files,
            record=record,
            compared=compared,
        )

    async def _standing(self, request: Request) -> tuple[str, Standing]:
        domain = request.path_params["domain"]
        active = await standing(self._desk.bus, domain) if domain in self._domains else None
        if active is None:
            raise DeniedError(404, f"no policies are in force in {domain}")
        return domain, active

    async def _bundle(self, domain: str, digest: str) -> msgspec.Raw:
        message = await self._desk.bus.last(kv_stream(POLICY_BUCKET), bundle_key(domain, digest))
        if message is None:
            raise TerminalError(f"the bundle {digest} of {domain} is not kept (any more)")
        return payload_of(msgspec.Raw(message.data))
