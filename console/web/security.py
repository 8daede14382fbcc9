"""What every answer carries and every request must show: headers, cookies, CSRF, and whose request it is.

The rule: a page loads nothing but from here, runs no script of its own text, and changes nothing without its token.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from console.web.sessions import BY_PROXY, Session, Sessions
from console.web.tokens import Tokens
from mesh import files
from mesh.errors import SettingsError
from mesh.settings import ConsoleSettings
from mesh.trust import TrustDirectory, TrustEntry

SECRET_HEADER = "x-workmesh-proxy-secret"
_SECRET_BYTES = 32
_BODY_BYTES = 2 * 1024 * 1024
_SAFE = ("GET", "HEAD")

_CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with "no-referrer" browsers send forms from the origin "null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class DeniedError(Exception):
    """The request is refused with this status; the message says why, and what to do."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class SignedOutError(Exception):
    """Nobody is signed in."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person of a request, as trust has them now."""

    entry: TrustEntry
    session: Session

    @property
    def name(self) -> str:
        """Who it is."""
        return self.entry.name

    def has(self, *roles: str) -> bool:
        """Whether the person has one of these roles."""
        return bool(set(roles) & set(self.entry.roles))


class Doorkeeper:
    """Says whose request it is."""

    def __init__(self, settings: ConsoleSettings, sessions: Sessions, tokens: Tokens, trust: TrustDirectory) -> None:
        self._settings = settings
        self._sessions = sessions
        self._tokens = tokens
        self._trust = trust
        self.is_secure = bool(settings.tls_certificate) or settings.origin.startswith("https://")
        # Cookies know no ports: consoles of two sites on one host keep theirs apart by the root of their trust.
        own = sha256(trust.root_public_key.encode()).hexdigest()[:8]
        self._cookie = f"{'__Host-' if self.is_secure else ''}workmesh-{own}"
        self._proxy_secret = _read_secret(settings) if settings.proxy_header else ""

    @property
    def by_proxy(self) -> bool:
        """Whether people come by a proxy that knows who they are."""
        return bool(self._proxy_secret)

    def viewer(self, request: Request) -> Viewer:
        """Who asks; raises ``SignedOutError``, or ``DeniedError`` for one who may not come in at all."""
        session = self._sessions.find(request.cookies.get(self._cookie, ""))
        if self.by_proxy:
            session = self._proxied(request, session)
        elif session is not None and not self._tokens.stands(session.token):
            session = None
        if session is None:
            raise SignedOutError
        return Viewer(self._person(session.person), session)

    def sign_in(self, given: str) -> tuple[str, Session] | None:
        """A session for the token that was typed; ``None`` for one that is not in force."""
        token = self._tokens.find(given)
        if token is None:
            return None
        self._person(token.person)
        return self._sessions.open(token.person, token.id)

    def sign_out(self, request: Request, response: Response) -> None:
        """End the session of a request."""
        self._sessions.end(request.cookies.get(self._cookie, ""))
        response.delete_cookie(self._cookie, path="/", secure=self.is_secure, httponly=True, samesite="strict")

    def keep(self, response: Response, secret: str) -> None:
        """Give the session's secret to the browser."""
        age = int(self._settings.session_s)
        response.set_cookie(
            self._cookie, secret, max_age=age, path="/", secure=self.is_secure, httponly=True, samesite="strict"
        )

    def require_own(self, request: Request) -> None:
        """Raise ``DeniedError`` for a request that another site had the browser send."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise DeniedError(403, "this request came from another site")
        origin = request.headers.get("origin")
        if origin is not None and origin not in self._origins(request):
            raise DeniedError(403, f"this request came from {origin}: behind a proxy, set console.origin")

    def _origins(self, request: Request) -> tuple[str, ...]:
        if self._settings.origin:
            return (self._settings.origin.rstrip("/"),)
        return (f"{'https' if self._settings.tls_certificate else 'http'}://{request.headers.get('host', '')}",)

    def _proxied(self, request: Request, session: Session | None) -> Session:
        given = request.headers.get(SECRET_HEADER, "").encode()
        name = request.headers.get(self._settings.proxy_header, "")
        if not hmac.compare_digest(given, self._proxy_secret.encode()) or not name:
            raise DeniedError(403, "come by the proxy: people sign in there")
        if session is None or session.token != BY_PROXY or session.person != name:
            self._person(name)
            secret, session = self._sessions.open(name, BY_PROXY)
            request.state.new_session = secret
        return session

    def _person(self, name: str) -> TrustEntry:
        entry = self._trust.find(name)
        if entry is None or entry.kind != "person" or entry.revoked_at is not None:
            raise DeniedError(403, f"{name} is not enrolled as a person (any more): `workmesh keys enroll {name}`")
        return entry


def require_csrf(viewer: Viewer, given: str) -> None:
    """Raise ``DeniedError`` unless the page's own token came along."""
    if not hmac.compare_digest(given.encode(), viewer.session.csrf.encode()):
        raise DeniedError(403, "this page is from another sign-in: load it again")


async def read_body(request: Request) -> bytes:
    """The body, which is bounded; raises ``DeniedError``."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > _BODY_BYTES:
            raise DeniedError(413, f"more than {_BODY_BYTES} bytes", {"connection": "close"})
    return bytes(found)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a plain form, the first of each name."""
    try:
        text = (await read_body(request)).decode()
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=100, errors="strict")
    except (UnicodeDecodeError, ValueError) as error:
        raise DeniedError(400, "this is no form") from error
    return {name: values[0] for name, values in fields.items()}


ASGI = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


def hardened(app: ASGI, *, is_secure: bool) -> ASGI:
    """The application, all of whose answers carry the headers; only static files may be kept."""
    common = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    if is_secure:
        common.append((b"strict-transport-security", b"max-age=31536000"))

    async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = [*headers, *common]
            await send(message)

        await app(scope, receive, told)

    return answer


def is_safe(request: Request) -> bool:
    """Whether the request only reads."""
    return request.method in _SAFE


def _read_secret(settings: ConsoleSettings) -> str:
    if not settings.proxy_secret_file:
        raise SettingsError("console.proxy_header: give console.proxy_secret_file too, or anybody could set the header")
    path = Path(settings.proxy_secret_file)
    found = files.read_private(path, "console.proxy_secret_file").strip()
    if len(found) < _SECRET_BYTES:
        raise SettingsError(f"console.proxy_secret_file: {path} holds less than {_SECRET_BYTES} characters")
    return found
