"""Signing in and out; the stream of changes; who looks."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from console.web.desk import Desk
from console.web.live import TOPICS
from console.web.security import DeniedError, Viewer, read_form, require_csrf
from console.web.sessions import Attempts

_TOPICS_MAX = 8


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = SignIn(desk)
    return [
        Route("/signin", own.form, methods=["GET"]),
        Route("/signin", own.sign_in, methods=["POST"]),
        Route("/health", own.health, methods=["GET"]),
        desk.route("/signout", own.sign_out, "POST"),
        desk.route("/live", own.live, json=True),
        desk.route("/keys", own.keys),
    ]


class SignIn:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._attempts = Attempts()

    async def form(self, request: Request) -> Response:
        """The form to sign in with."""
        if self._desk.doorkeeper.by_proxy:
            return RedirectResponse("/", 303)
        return self._desk.page("signin.html.jinja", request, None, problem="")

    async def sign_in(self, request: Request) -> Response:
        """Take a token."""
        address = request.client.host if request.client else "?"
        try:
            self._desk.doorkeeper.require_own(request)
            if self._desk.doorkeeper.by_proxy:
                raise DeniedError(403, "come by the proxy: people sign in there")
            opened = self._desk.doorkeeper.sign_in((await read_form(request)).get("token", "").strip())
            if opened is None:
                # A right one always lets in: of 256 bits nobody guesses any, and many people may share an address.
                if wait_s := self._attempts.wait_s(address):
                    raise DeniedError(429, f"too many wrong tokens: wait {wait_s} s", {"retry-after": str(wait_s)})
                self._attempts.failed(address)
                raise DeniedError(401, "this token lets nobody in (any more): ask for a new one")
        except DeniedError as error:
            page = self._desk.page("signin.html.jinja", request, None, problem=str(error), status_code=error.status)
            page.headers.update(error.headers)
            return page
        response = RedirectResponse("/", 303)
        self._desk.doorkeeper.keep(response, opened[0])
        return response

    async def sign_out(self, request: Request, viewer: Viewer) -> Response:
        """End the session."""
        require_csrf(viewer, (await read_form(request)).get("csrf", ""))
        response = RedirectResponse("/signin", 303)
        self._desk.doorkeeper.sign_out(request, response)
        return response

    async def keys(self, request: Request, viewer: Viewer) -> Response:
        """The page on which a person's own key is brought into the browser."""
        return self._desk.page("keys.html.jinja", request, viewer, title="Your key", live="")

    async def live(self, request: Request, viewer: Viewer) -> Response:
        """The stream of what changes."""
        asked = request.query_params.get("topics", "").split(",")[:_TOPICS_MAX]
        topics = [each for each in asked if each in TOPICS or each.startswith("task:")]
        if self._desk.live.is_full:
            raise DeniedError(503, "too many pages are open", {"retry-after": "30"})
        return StreamingResponse(
            self._desk.live.stream(topics), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def health(self, request: Request) -> Response:
        """Whether pages can be made."""
        there = self._desk.bus.is_connected
        return PlainTextResponse("ok" if there else "the bus is away", 200 if there else 503)
