"""What every page is made with: the bus, who asks, the templates; and how an endpoint is wrapped.

The rule: an endpoint returns what it found or raises; who may ask, and what is said of errors, is decided here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from console.web.live import Live
from console.web.security import DeniedError, Doorkeeper, SignedOutError, Viewer, is_safe, require_csrf
from console.web.task_index import TaskIndex
from mesh import service
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls
from mesh.errors import BusUnavailableError, WorkmeshError
from mesh.halts import HALT
from mesh.journal import Committer, Journal
from mesh.money import money
from mesh.records import Json
from mesh.settings import Settings
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)

T = TypeVar("T")

Endpoint = Callable[[Request, Viewer], Awaitable[Response]]

CSRF_HEADER = "x-csrf-token"
_ASK_S = 5.0
_PAGES = (
    ("/", "Overview"),
    ("/approvals", "Approvals"),
    ("/tasks", "Tasks"),
    ("/facts", "Contested facts"),
    ("/quarantine", "Quarantine"),
    ("/policies", "Policies"),
    ("/learning", "Learning"),
    ("/autonomy", "Autonomy"),
    ("/halts", "Kill switch"),
    ("/slos", "Objectives"),
    ("/spending", "Model spend"),
)


@dataclass(frozen=True, slots=True)
class Desk:
    """All that pages need."""

    settings: Settings
    bus: Bus
    committer: Committer
    journal: Journal
    controls: Controls
    trust: TrustDirectory
    doorkeeper: Doorkeeper
    index: TaskIndex
    live: Live
    templates: jinja2.Environment

    async def ask(self, name: str, verb: str, request: msgspec.Struct, answer: type[T], timeout_s: float = _ASK_S) -> T:
        """The answer of a service; raises ``ServiceError`` or ``BusUnavailableError``."""
        return await service.ask(self.bus, name, verb, request, answer, timeout_s)

    def page(self, template: str, request: Request, viewer: Viewer | None, **values: Any) -> HTMLResponse:
        """A page of this template, for who looks at it."""
        status = values.pop("status_code", 200)
        halts = [item.act for item in self.controls.standing(HALT) if item.act.halted]
        key = viewer.entry.public_key if viewer else ""
        text = self.templates.get_template(template).render(
            viewer=viewer, public_key=key, pages=_PAGES, path=request.url.path, halts=halts, now=now(), **values
        )
        return HTMLResponse(text, status)

    def route(self, path: str, endpoint: Endpoint, *methods: str, json: bool = False) -> Route:
        """The endpoint at a path, for those who are signed in; ``json`` is for what scripts ask."""

        async def answer(request: Request) -> Response:
            try:
                viewer = self.doorkeeper.viewer(request)
                if not is_safe(request):
                    self.doorkeeper.require_own(request)
                    if json:
                        require_csrf(viewer, request.headers.get(CSRF_HEADER, ""))
                response = await endpoint(request, viewer)
            except SignedOutError:
                response = _refused("sign in again", 401) if json else RedirectResponse("/signin", 303)
            except DeniedError as error:
                response = self._problem(request, str(error), error.status, json=json)
                response.headers.update(error.headers)
            except BusUnavailableError as error:
                log.warning("page_without_bus", path=request.url.path, reason=str(error))
                response = self._problem(request, f"The bus does not answer: {error}", 503, json=json)
            except WorkmeshError as error:
                response = self._problem(request, str(error), 409, json=json)
            if secret := getattr(request.state, "new_session", ""):
                self.doorkeeper.keep(response, secret)
            return response

        return Route(path, answer, methods=list(methods or ("GET",)))

    def _problem(self, request: Request, reason: str, status: int, *, json: bool) -> Response:
        if json:
            return _refused(reason, status)
        return self.page("problem.html.jinja", request, None, reason=reason, status=status, status_code=status)


def said(message: str, **more: Any) -> JSONResponse:
    """What came of an act, for the script that asked for it."""
    return JSONResponse({"message": message, **more})


def as_json(value: Any) -> Response:
    """A struct as JSON, its raw parts to the byte."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def _refused(reason: str, status: int) -> JSONResponse:
    return JSONResponse({"error": reason}, status)


def templates() -> jinja2.Environment:
    """The templates: everything is escaped, and what is not there is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: Mapping[str, Callable[..., Any]] = {"at": _at, "money": money, "pretty": _pretty, "payload": _payload}
    made.filters.update(filters)
    return made


def _at(moment: datetime | str) -> str:
    """A time as people read it."""
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{found:%Y-%m-%d %H:%M:%S}"


def _pretty(part: Json) -> str:
    return msgspec.json.format(bytes(part), indent=2).decode("utf-8", "replace")


def _payload(value: Any) -> str:
    """What is to be signed, as the script reads it from an attribute."""
    return msgspec.json.encode(value).decode()
