"""The shop over HTTP: what it is asked, and what each of its answers and failures says of how far a request got.

The rule: ``NotSentError`` only where nothing changed, ``ToolRefusedError`` only on the shop's word; else uncertain.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Self
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from packs.retail.arguments import OrderArgs
from packs.retail.facts import Customer, Document, Item, Lookup, Order, Variant, cents

# A tool gives up after 2.0 s (packs.retail.tools); each wait here ends sooner, so the error can still say more.
TIMEOUT = httpx2.Timeout(connect=0.5, pool=0.5, write=0.5, read=1.8)
# Idle connections are dropped before the shop does so (uvicorn: after 5 s), else a request may meet a closed one.
LIMITS = httpx2.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=3.0)

_SLOW_ANSWER_S = 5.0
LOG_PAGE = 500
_NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class NamedItem(Item, frozen=True, kw_only=True):
    """A piece of an order with its name."""

    name: str = ""
    options: dict[str, str] = msgspec.field(default_factory=dict)


class NamedVariant(Variant, frozen=True, kw_only=True):
    """A variant with its name."""

    name: str = ""
    options: dict[str, str] = msgspec.field(default_factory=dict)


class NamedOrder(Order, frozen=True, kw_only=True):
    """An order whose pieces have names."""

    items: tuple[NamedItem, ...]


class PersonName(Document, frozen=True, kw_only=True):
    """How to address a customer."""

    first_name: str = ""


class NamedCustomer(Customer, frozen=True, kw_only=True):
    """A customer with a name."""

    name: PersonName = PersonName()


class ShopLookup(Lookup, frozen=True, kw_only=True):
    """The documents asked for, with what people call things."""

    order: NamedOrder | None
    user: NamedCustomer | None
    variants: Mapping[str, NamedVariant | None] = msgspec.field(default_factory=dict)


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A change that took effect. ``amount`` and new balances of gift cards are in cents; ``seq`` is its place in the
    shop's log; ``replayed`` says that the key had taken effect before.
    """

    kind: str
    order_id: str
    amount: int
    seq: int
    gift_cards: dict[str, int]
    replayed: bool


class _WireAnswer(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    order_id: str
    amount: int
    seq: int
    gift_cards: dict[str, Decimal]
    replayed: bool


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    error: str = ""
    detail: str | None = None


_lookups = msgspec.json.Decoder(ShopLookup)
_answers = msgspec.json.Decoder(_WireAnswer)
_refusals = msgspec.json.Decoder(_Refusal)


class _Customers(msgspec.Struct):
    users: tuple[str, ...]


class ShopChange(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the shop's log: its place, the key that the change came with, and what it was."""

    seq: int
    key: str
    kind: str


class _Log(msgspec.Struct):
    changes: tuple[ShopChange, ...]


class Shop:
    """A client of one shop, with its pool of connections."""

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._ahead_s = 0.0
        self._looking: dict[str, asyncio.Task[ShopLookup]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, waits: httpx2.Timeout = TIMEOUT) -> AsyncIterator[Self]:
        """A client of the shop at this URL; nothing is sent yet."""
        async with httpx2.AsyncClient(timeout=waits, limits=LIMITS, trust_env=False) as client:
            yield cls(url, client)

    async def lookup(
        self, order_id: str, user_id: str, variants: Sequence[str] = (), *, siblings: bool = False
    ) -> ShopLookup:
        """The documents of an order, a customer and variants; raises ``NotSentError`` when the shop cannot tell.

        With ``siblings`` come all variants of the order's products.
        Whoever asks the same while an answer is on its way gets that answer.
        """
        query = urlencode([("order", order_id), ("user", user_id), *(("variant", each) for each in variants)])
        query += "&siblings=yes" if siblings else ""
        looking = self._looking.get(query)
        if looking is None:
            looking = self._looking[query] = asyncio.create_task(self._look(query), name="lookup")
            looking.add_done_callback(lambda done: self._looked(query, done))
        return await asyncio.shield(looking)

    def _looked(self, query: str, done: "asyncio.Task[ShopLookup]") -> None:
        del self._looking[query]
        if not done.cancelled():
            done.exception()  # taken note of, though everybody who asked has gone

    async def _look(self, query: str) -> ShopLookup:
        response = await self._read(f"/lookup?{query}")
        if response.status_code != httpx2.codes.OK:
            raise NotSentError(f"GET /lookup answered {_said(response)}")
        try:
            return _lookups.decode(response.content)
        except msgspec.DecodeError as error:
            raise NotSentError(f"GET /lookup answered what is no lookup: {error}") from error

    async def customers(self, email: str) -> tuple[str, ...]:
        """The ids of the customers with this address; raises ``NotSentError`` when the shop cannot tell."""
        response = await self._read(f"/customers?{urlencode({'email': email})}")
        if response.status_code != httpx2.codes.OK:
            raise NotSentError(f"GET /customers answered {_said(response)}")
        try:
            return msgspec.json.decode(response.content, type=_Customers).users
        except msgspec.DecodeError as error:
            raise NotSentError(f"GET /customers answered what is no list: {error}") from error

    async def changes(self, after: int) -> tuple[ShopChange, ...]:
        """A page of the shop's log behind a sequence; raises ``NotSentError`` when the shop cannot tell."""
        response = await self._read(f"/changes?{urlencode({'after': after, 'limit': LOG_PAGE})}")
        if response.status_code != httpx2.codes.OK:
            raise NotSentError(f"GET /changes answered {_said(response)}")
        try:
            return msgspec.json.decode(response.content, type=_Log).changes
        except msgspec.DecodeError as error:
            raise NotSentError(f"GET /changes answered what is no log: {error}") from error

    async def change(
        self, kind: str, args: OrderArgs, *, key: str, call_by: float, traceparent: str = ""
    ) -> ChangeAnswer:
        """Carry out a change (``return``, ``cancel``, ...) once under its key, not after ``call_by`` (Unix seconds).

        Raises ``NotSentError``, ``UncertainError`` or ``ToolRefusedError``.
        """
        body = msgspec.json.encode({"kind": kind} | msgspec.structs.asdict(args))
        return await self._post("/changes", body, key, call_by, traceparent)

    async def undo(self, change_key: str, *, key: str, call_by: float, traceparent: str = "") -> ChangeAnswer:
        """Take the change under ``change_key`` back, once under the undo's own key; raises as ``change`` does."""
        return await self._post(f"{_change_path(change_key)}/undo", b"", key, call_by, traceparent)

    async def change_of(self, key: str) -> ChangeAnswer | None:
        """What took effect under this key, or ``None``; raises ``NotSentError`` when the shop cannot tell."""
        response = await self._read(_change_path(key))
        if response.status_code == httpx2.codes.NOT_FOUND and _refusal(response).error == "unknown_key":
            return None
        if response.status_code != httpx2.codes.OK:
            raise NotSentError(f"GET /changes/{key} answered {_said(response)}")
        try:
            return _answer(response)
        except msgspec.DecodeError as error:
            raise NotSentError(f"GET /changes/{key} answered what is no change: {error}") from error

    async def _read(self, path: str) -> httpx2.Response:
        try:
            return await self._send(httpx2.Request("GET", self._url + path))
        except ToolError as error:
            raise NotSentError(str(error)) from error

    async def _post(self, path: str, body: bytes, key: str, call_by: float, traceparent: str) -> ChangeAnswer:
        if unix() >= call_by:
            raise NotSentError(f"the time to send {key} is over")
        deadline = f"{call_by + self._ahead_s:.6f}"
        headers = {"content-type": "application/json", "idempotency-key": key, "request-deadline": deadline}
        if traceparent:
            headers["traceparent"] = traceparent
        response = await self._send(httpx2.Request("POST", self._url + path, headers=headers, content=body))
        if response.status_code != httpx2.codes.OK:
            raise _failure(response, f"{key} at POST {path}")
        try:
            return _answer(response)
        except msgspec.DecodeError as error:
            raise UncertainError(f"{key} at POST {path}: answered what is no change: {error}") from error

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._client.send(request)
        except _NOTHING_SENT as error:
            raise NotSentError(f"the shop at {self._url} cannot be reached: {error!r}") from error
        except httpx2.RequestError as error:
            raise UncertainError(f"{request.method} {request.url.path} got no answer: {error!r}") from error
        self._ahead_s = ahead_s(response.headers.get("date", ""), unix())
        return response


def ahead_s(date: str, here: float) -> float:
    """How far the shop's clock is ahead of ours (at ``here``), by the ``Date`` of its answer; 0 when it agrees.

    The date was written before it came here, in whole seconds (RFC 9110 5.6.7): the shop is never less ahead than it
    seems, so a deadline moved by this never comes too late. Behind by a little is an answer that took its time.
    """
    try:
        seems = parsedate_to_datetime(date).timestamp() - here
    except ValueError:
        return 0.0
    return 0.0 if -_SLOW_ANSWER_S < seems < 0 else seems


def _answer(response: httpx2.Response) -> ChangeAnswer:
    wire = _answers.decode(response.content)
    return ChangeAnswer(
        kind=wire.kind,
        order_id=wire.order_id,
        amount=wire.amount,
        seq=wire.seq,
        gift_cards={card: cents(balance) for card, balance in wire.gift_cards.items()},
        replayed=wire.replayed,
    )


def _failure(response: httpx2.Response, what: str) -> ToolError:
    """What an answer other than 200 says of a change."""
    status, refusal = response.status_code, _refusal(response)
    message = f"{what}: {refusal.detail or _said(response)}"
    if status == httpx2.codes.TOO_MANY_REQUESTS or refusal.error == "deadline_passed":
        return NotSentError(message)  # said of a request that changed nothing
    if status == httpx2.codes.REQUEST_TIMEOUT or not 400 <= status < 500:
        return UncertainError(message)
    return ToolRefusedError(refusal.error or f"http_{status}", message)


def _refusal(response: httpx2.Response) -> _Refusal:
    try:
        return _refusals.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()


def _said(response: httpx2.Response) -> str:
    return f"{response.status_code} {_refusal(response).error}".rstrip()


def _change_path(key: str) -> str:
    return f"/changes/{quote(key, safe='')}"
