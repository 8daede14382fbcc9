"""The ledger pack: a small domain with a tool of each kind of recovery, for tests of the shared system."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import msgspec

from mesh.errors import NotSentError, RetryableError, ToolRefusedError, UncertainError
from mesh.finding import Finder, sure
from mesh.mounts.folder import Mount, opened, read_mounts, tools_of, values_of
from mesh.pack import EventType, Pack, Sheet
from mesh.records import Context, Found, Party, Plan, Step
from mesh.tools import Recovery, RetryPolicy, Tool, ToolCall, ToolFunction

FOLDER = Path(__file__).parent
TARGET = "ledger"
FAULTY, HANGING = "faulty", "hanging"
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class LedgerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the ledger is, and how long its tools wait; its books are a file, and how doubts about them are settled."""

    url: str = "http://127.0.0.1:9"
    books: str = "books.db"
    book_recovery: Literal["idempotent", "verifiable"] = "idempotent"
    timeout_s: float = 2.0


class EntryRequested(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody wants one entry in the ledger; ``memo`` is free text. A ``double`` enters what the account has then."""

    account: str
    amount: int
    kind: Literal["post", "transfer", "wire", "double", "book"]
    memo: str = ""


_FINDS = (Finder("case", r"\bcase:(\w+)"), Finder("urgency", r"\burgent\b", "high", 0.9))


def _case(said: EntryRequested, found: Sequence[Found]) -> str:
    return sure(found, "case")


class MoveRequested(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody wants money moved in several steps; the last is to fail when ``last`` is above the ledger's limit."""

    account: str
    amount: int
    last: int
    note: int


class EntryArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry."""

    account: str
    amount: int


class AccountArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account."""

    account: str


class Entered(msgspec.Struct, frozen=True):
    """The place of an effect in the ledger's log."""

    seq: int | None = None


class Account(msgspec.Struct, frozen=True):
    """What the ledger says of an account."""

    frozen: bool
    balance: int


class LedgerClient:
    """The ledger over HTTP."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def enter(self, kind: str, args: EntryArgs, call: ToolCall) -> Entered:
        """One entry; raises a ``ToolError`` that says how far it got."""
        if time.time() >= call.call_by:
            raise NotSentError(f"the time to send {call.key} is over")
        headers = {
            "idempotency-key": call.key,
            "request-deadline": str(call.call_by),
            "traceparent": call.traceparent,
        }
        try:
            answer = await self._client.post(f"/entries/{kind}", json=msgspec.to_builtins(args), headers=headers)
        except _NOT_SENT as error:
            raise NotSentError(f"the ledger cannot be reached: {error!r}") from error
        except httpx2.RequestError as error:
            raise UncertainError(f"the ledger did not answer: {error!r}") from error
        if answer.status_code == 409:
            raise NotSentError(f"{call.key} came too late")
        if answer.status_code == 422:
            raise ToolRefusedError("refused", "the ledger refuses the entry")
        if answer.status_code != 200:
            raise UncertainError(f"the ledger answered {answer.status_code}")
        return msgspec.json.decode(answer.content, type=Entered)

    async def by_key(self, key: str) -> Entered | None:
        """What took effect under a key; raises ``NotSentError``."""
        answer = await self._get(f"/keys/{key}")
        return msgspec.json.decode(answer.content, type=Entered) if answer.status_code == 200 else None

    async def account(self, account: str) -> Account:
        """What the ledger says of an account; raises ``NotSentError``."""
        return msgspec.json.decode((await self._get(f"/accounts/{account}")).content, type=Account)

    async def _get(self, path: str) -> httpx2.Response:
        try:
            return await self._client.get(path)
        except httpx2.RequestError as error:
            raise NotSentError(f"the ledger does not answer: {error!r}") from error


def _entering(kind: str) -> ToolFunction:
    async def run(args: EntryArgs, call: ToolCall) -> Entered:
        ledger: LedgerClient = call.system
        return await ledger.enter(kind, args, call)

    return run


async def _find(_: msgspec.Struct, call: ToolCall) -> Entered | None:
    ledger: LedgerClient = call.system
    return await ledger.by_key(call.key)


async def _look(args: AccountArgs, call: ToolCall) -> Account:
    ledger: LedgerClient = call.system
    return await ledger.account(args.account)


def _tool(kind: str, recovery: Recovery, timeout_s: float) -> Tool:
    return Tool(
        name=f"ledger.{kind}",
        args=EntryArgs,
        run=_entering(kind),
        recovery=recovery,
        verify=_find if recovery is Recovery.VERIFIABLE else None,
        target=TARGET,
        timeout_s=timeout_s,
        retry=RetryPolicy(attempts=2),
    )


def tools(options: LedgerOptions) -> tuple[Tool, ...]:
    """A tool of each kind of recovery, one to undo with, one to read with."""
    return (
        _tool("post", Recovery.IDEMPOTENT, options.timeout_s),
        _tool("transfer", Recovery.VERIFIABLE, options.timeout_s),
        _tool("wire", Recovery.MANUAL, options.timeout_s),
        _tool("reverse", Recovery.IDEMPOTENT, options.timeout_s),
        _tool("note", Recovery.IDEMPOTENT, options.timeout_s),
        Tool(
            name="ledger.look",
            args=AccountArgs,
            run=_look,
            recovery=Recovery.IDEMPOTENT,
            target=TARGET,
            timeout_s=options.timeout_s,
            read_only=True,
        ),
        *tools_of(_mounts(options)),
    )


def _mounts(options: LedgerOptions) -> tuple[Mount, ...]:
    return read_mounts(FOLDER / "mounts", values_of(options))


@asynccontextmanager
async def connect(options: LedgerOptions) -> AsyncIterator[Mapping[str, Any]]:
    """The client; nothing is sent yet."""
    waits = httpx2.Timeout(connect=0.5, pool=0.5, write=0.5, read=0.9 * options.timeout_s)
    limits = httpx2.Limits(keepalive_expiry=3.0)
    client = httpx2.AsyncClient(base_url=options.url, timeout=waits, limits=limits, trust_env=False)
    async with client, opened(_mounts(options)) as systems:
        yield {TARGET: LedgerClient(client), **systems}


async def facts(context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
    """Whether the account is frozen now; the amount is the one that was asked for. Two accounts find its faults."""
    asked = msgspec.json.decode(context.data, type=dict[str, Any])
    if asked["account"] == FAULTY:
        raise ZeroDivisionError("a fault of the information point")
    if asked["account"] == HANGING:
        await asyncio.Event().wait()
    ledger: LedgerClient = systems[TARGET]
    try:
        account = await ledger.account(asked["account"])
    except NotSentError as error:
        raise RetryableError(str(error)) from error
    known = msgspec.Raw(msgspec.json.encode({"frozen": account.frozen, "amount": asked["amount"]}))
    return Sheet(
        facts=known,
        amount=asked["amount"],
        parties=(Party(kind="account", id=asked["account"]),),
        source="the ledger",
    )


pack = Pack(
    name="ledger",
    version="0.1.0",
    options=LedgerOptions,
    events=(
        EventType(
            "ledger.entry.requested", EntryRequested, taint=("/memo",), finds=_FINDS, case=_case, words=("memo",)
        ),
        EventType("ledger.move.requested", MoveRequested),
    ),
    tools=tools,
    connect=connect,
    playbooks=FOLDER / "playbooks",
    policies=FOLDER / "policies",
    facts=facts,
)
