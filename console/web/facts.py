"""Facts that contradict each other: where each came from, and a steward's choice between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.web.desk import Desk
from console.web.security import DeniedError, Viewer
from mesh.facts import STEWARD_ROLE, FactStatus, Judged, Scope, Slot
from mesh.memory import FactsPage, FactsRequest, Grounds, HistoryLine, HistoryRequest, WhyRequest

_PAGES_MAX = 10


@dataclass(frozen=True, slots=True)
class Contest:
    """One slot, and what contradicts each other in it."""

    slot: Slot
    facts: tuple[Judged, ...]


def routes(desk: Desk, packs: Sequence[str]) -> list[Route]:
    """The routes of this page group."""
    own = Facts(desk, packs)
    return [desk.route("/facts", own.list_), desk.route("/facts/{fact}", own.one)]


class Facts:
    """The endpoints."""

    def __init__(self, desk: Desk, packs: Sequence[str]) -> None:
        self._desk = desk
        self._scopes = (Scope(), *(Scope(domain=name) for name in packs))

    async def list_(self, request: Request, viewer: Viewer) -> Response:
        """What is contested, by slot."""
        found: dict[str, list[Judged]] = {}
        for scope in self._scopes:
            for judged in await self._contested(scope):
                found.setdefault(judged.fact.slot.id, []).append(judged)
        contests = [Contest(each[0].fact.slot, tuple(each)) for each in found.values()]
        return self._desk.page(
            "facts.html.jinja", request, viewer, title="Contested facts", live="facts", contests=contests
        )

    async def one(self, request: Request, viewer: Viewer) -> Response:
        """One slot: all its facts, what each rests on, its history, and the choices."""
        grounds = await self._why(request.path_params["fact"])
        slot = grounds.judged.fact.slot
        all_ = await self._facts(FactsRequest(scope=slot.scope, subject=slot.subject, status=None))
        facts = [judged for judged in all_ if judged.fact.slot == slot]
        lines = await self._desk.ask("memory", "history", HistoryRequest(slot=slot), tuple[HistoryLine, ...])
        seen = max((judged.fact.version for judged in facts), default=0)
        choices = {judged.fact.id: _word(viewer, slot, judged.fact.id, seen) for judged in facts}
        return self._desk.page(
            "fact.html.jinja",
            request,
            viewer,
            title=f"{slot.predicate} of {slot.subject}",
            live="facts",
            slot=slot,
            facts=facts,
            grounds=[await self._why(judged.fact.id) for judged in facts],
            lines=lines,
            choices=choices,
            neither=_word(viewer, slot, "", seen),
            may_resolve=viewer.has(STEWARD_ROLE),
            steward=STEWARD_ROLE,
        )

    async def _why(self, fact: str) -> Grounds:
        if not fact.isascii() or len(fact) > 200:
            raise DeniedError(404, "there is no such fact")
        return await self._desk.ask("memory", "why", WhyRequest(id=fact), Grounds)

    async def _contested(self, scope: Scope) -> list[Judged]:
        return await self._facts(FactsRequest(scope=scope, status=FactStatus.CONTESTED, limit=100))

    async def _facts(self, request: FactsRequest) -> list[Judged]:
        found: list[Judged] = []
        for _ in range(_PAGES_MAX):
            page = await self._desk.ask("memory", "facts", request, FactsPage)
            found += page.facts
            if page.next is None:
                break
            request = msgspec.structs.replace(request, after=page.next)
        return found


def _word(viewer: Viewer, slot: Slot, chosen: str, seen: int) -> dict[str, Any]:
    """What a steward signs to have one stand; the page adds nonce, times and reason."""
    request = {"slot": msgspec.to_builtins(slot), "chosen": chosen, "seen": seen, "reason": ""}
    return {"verb": "resolve", "request": request, "person": viewer.name, "nonce": "", "at": "", "expires_at": ""}
