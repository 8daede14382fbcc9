"""The application: every page group's routes, and the static files."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from console.web import approvals, facts, governance, overview, policies, quarantine, signed, signin, tasks
from console.web.desk import Desk
from console.web.security import hardened

_STATIC = {path.name: path for path in sorted((Path(__file__).parent / "static").iterdir())}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_KEPT = {"cache-control": "no-cache"}  # asked for anew each time, and mostly answered "not modified"


def application(desk: Desk, domains: Sequence[str]) -> Callable[..., Awaitable[None]]:
    """The whole console over this desk, for the domains whose packs are loaded."""
    routes = [
        Route("/static/{name}", _static, methods=["GET"]),
        *(
            route
            for group in (signin, overview, approvals, tasks, quarantine, governance, signed)
            for route in group.routes(desk)
        ),
        *facts.routes(desk, domains),
        *policies.routes(desk, domains),
    ]

    async def missing(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        reason = "There is no such page." if status == 404 else "This cannot be done here."
        return desk.page("problem.html.jinja", request, None, reason=reason, status=status, status_code=status)

    handlers: dict[Any, Any] = {HTTPException: missing}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return hardened(app, is_secure=desk.doorkeeper.is_secure)


async def _static(request: Request) -> Response:
    path = _STATIC.get(request.path_params["name"])
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type=_TYPES.get(path.suffix, "application/octet-stream"), headers=_KEPT)
