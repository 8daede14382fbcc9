"""What was not accepted: why, its original, and its release, mended or as it is."""

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.web.desk import Desk
from console.web.security import DeniedError, Viewer, read_form, require_csrf
from mesh import quarantine as items
from mesh.quarantine import Quarantined

RELEASERS = ("operator", "policy_admin")
"""The roles of people who may release: those that may let work go on."""
_SHOWN = 200
_TEXT_MAX = 100_000


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = Quarantine(desk)
    return [
        desk.route("/quarantine", own.list_),
        desk.route("/quarantine/{item}", own.one),
        desk.route("/quarantine/{item}", own.release, "POST"),
    ]


class Quarantine:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_(self, request: Request, viewer: Viewer) -> Response:
        """What waits, the newest first."""
        found = (await items.waiting(self._desk.bus))[::-1]
        return self._desk.page(
            "quarantine.html.jinja",
            request,
            viewer,
            title="Quarantine",
            live="quarantine",
            items=found[:_SHOWN],
            total=len(found),
            released=request.query_params.get("released", ""),
        )

    async def one(self, request: Request, viewer: Viewer) -> Response:
        """One item."""
        return self._page(request, viewer, await self._find(request))

    async def release(self, request: Request, viewer: Viewer) -> Response:
        """Give it to its stage again; what was changed in the form goes in the place of the original."""
        form = await read_form(request)
        require_csrf(viewer, form.get("csrf", ""))
        if not viewer.has(*RELEASERS):
            raise DeniedError(403, f"{viewer.name} may not release: that needs the role {' or '.join(RELEASERS)}")
        item = await self._find(request)
        mended = form.get("mended")
        data: bytes | None = None
        if mended is not None:
            data = mended.replace("\r\n", "\n").encode()
            if data == item.data.replace(b"\r\n", b"\n"):
                data = None
            elif item.stream and (problem := _problem(data)):
                return self._page(request, viewer, item, text=mended, problem=problem)
        await items.release(self._desk.committer, item, person=viewer.name, mended=data)
        self._desk.live.tell(("quarantine",))
        return RedirectResponse(f"/quarantine?released={item.id}", 303)

    async def _find(self, request: Request) -> Quarantined:
        wanted = request.path_params["item"]
        if (found := await items.find(self._desk.bus, wanted)) is None:
            raise DeniedError(404, f"no item {wanted} waits in quarantine (any more)")
        return found

    def _page(
        self, request: Request, viewer: Viewer, item: Quarantined, *, text: str | None = None, problem: str = ""
    ) -> Response:
        original = item.data.decode("utf-8", "backslashreplace")
        return self._desk.page(
            "quarantined.html.jinja",
            request,
            viewer,
            title=f"Quarantined {item.id}",
            live="",
            item=item,
            text=(original if text is None else text)[:_TEXT_MAX],
            is_cut=len(original) > _TEXT_MAX,
            is_mendable=items.is_mendable(item) and len(original) <= _TEXT_MAX,
            may_release=viewer.has(*RELEASERS),
            problem=problem,
            status_code=422 if problem else 200,
        )


def _problem(data: bytes) -> str:
    """What is wrong with an event before anybody takes it: the rest perception will say."""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        return f"This is no JSON: {error}"
    return "" if isinstance(found, dict) else "An event is a JSON object."
