"""The first page: what waits for people, how tasks stand, which processes live; model spend; service levels."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.slo.budget import Budget, budgets
from console.spending import LedgerView, read_ledger
from console.web.desk import Desk
from console.web.security import Viewer
from mesh import quarantine, subjects
from mesh.approvals import Nothing, Waiting
from mesh.errors import WorkmeshError
from mesh.permissions import kv_stream

_SPENDING_S = 15.0  # the whole journal of completions is read for it
_BUDGETS_S = 10.0  # of windows of days
_BY = ("domain", "model", "role", "day", "outcome")


class _Beat(msgspec.Struct, frozen=True):
    role: str
    instance: str
    since: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """Something that waits for people; ``number`` is None where it cannot be told now."""

    name: str
    path: str
    number: int | None


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = Overview(desk)
    return [
        desk.route("/", own.home),
        desk.route("/spending", own.spending),
        desk.route("/slos", own.slos),
    ]


class Overview:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ledgers: dict[str, tuple[float, LedgerView]] = {}
        self._budgets: tuple[float, Sequence[Budget]] = (-math.inf, ())

    async def home(self, request: Request, viewer: Viewer) -> Response:
        """What waits, how tasks stand, and who lives."""
        states = self._desk.index.counts()
        waits = [
            Count("wait for a person's word", "/approvals", await self._approvals()),
            Count("in quarantine", "/quarantine", await self._quarantined()),
            Count("effects in doubt", "/tasks?state=in_doubt", states.get("in_doubt", 0)),
        ]
        return self._desk.page(
            "home.html.jinja",
            request,
            viewer,
            title="Overview",
            live="approvals,tasks,quarantine,governance",
            waits=waits,
            states=sorted(states.items()),
            tasks=self._desk.index.find(limit=8),
            processes=await self._processes(),
        )

    async def spending(self, request: Request, viewer: Viewer) -> Response:
        """What models have cost, by one key."""
        asked = request.query_params.get("by", "")
        by = asked if asked in _BY else _BY[0]
        kept = self._ledgers.get(by)
        if kept is None or time.monotonic() - kept[0] > _SPENDING_S:
            kept = self._ledgers[by] = (time.monotonic(), await read_ledger(self._desk.bus, by))
        return self._desk.page(
            "spending.html.jinja", request, viewer, title="Model spend", live="spending", ledger=kept[1], keys=_BY
        )

    async def slos(self, request: Request, viewer: Viewer) -> Response:
        """Service level objectives, and how much of each error budget is left."""
        url, problem = self._desk.settings.console.prometheus_url, ""
        if url and time.monotonic() - self._budgets[0] > _BUDGETS_S:
            try:
                self._budgets = (time.monotonic(), await budgets(url))
            except WorkmeshError as error:
                problem = str(error)
        found = () if problem else self._budgets[1]
        return self._desk.page(
            "slos.html.jinja", request, viewer, title="Objectives", live="", url=url, problem=problem, budgets=found
        )

    async def _approvals(self) -> int | None:
        try:
            return len(await self._desk.ask("policy", "list", Nothing(), list[Waiting], timeout_s=2))
        except WorkmeshError:
            return None

    async def _quarantined(self) -> int | None:
        try:
            return len(await quarantine.waiting(self._desk.bus))
        except WorkmeshError:
            return None

    async def _processes(self) -> list[_Beat]:
        stream = kv_stream(subjects.REGISTRY_BUCKET)
        try:
            found = await self._desk.bus.last_of_each(stream, [f"$KV.{subjects.REGISTRY_BUCKET}.>"])
            beats = [msgspec.json.decode(each.data, type=_Beat) for each in found if each.data]
        except (WorkmeshError, msgspec.DecodeError):
            return []
        return sorted(beats, key=lambda beat: (beat.role, beat.instance))
