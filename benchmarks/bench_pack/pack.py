"""The bench pack: one step a task, which does nothing or posts to a target; seen only where a bench asks for it."""

import importlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh.errors import NotSentError, UncertainError
from mesh.pack import EventType, Pack, Sheet
from mesh.records import Context, Plan, Step
from mesh.tools import Recovery, Tool, ToolCall

FOLDER = Path(__file__).parent
# A folder with this distribution's metadata: on PYTHONPATH it makes the pack an installed one.
INSTALLED = FOLDER / "installed"
NOTHING, POST = "bench.nothing.requested", "bench.post.requested"
TARGET = "target"
POLICIES = 200

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_AMOUNT = 100


class BenchOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where effects are posted to."""

    url: str = "http://127.0.0.1:9"


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of work; ``note`` is as long as a request of a customer."""

    number: int
    note: str = ""


class WorkArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which piece."""

    number: int


class Done(msgspec.Struct, frozen=True):
    """It is done."""

    number: int


async def _nothing(args: WorkArgs, _: ToolCall) -> Done:
    return Done(args.number)


async def _post(args: WorkArgs, call: ToolCall) -> Done:
    client: httpx2.AsyncClient = call.system
    try:
        answer = await client.post("/effects", json={"task": str(args.number), "key": call.key})
    except _NOT_SENT as error:
        raise NotSentError(f"the target cannot be reached: {error!r}") from error
    except httpx2.RequestError as error:
        raise UncertainError(f"the target did not answer: {error!r}") from error
    if answer.status_code >= 300:
        raise UncertainError(f"the target answered {answer.status_code}")
    return Done(args.number)


async def _posted(args: WorkArgs, call: ToolCall) -> Done | None:
    client: httpx2.AsyncClient = call.system
    try:
        answer = await client.get(f"/effects/{call.key}")
    except httpx2.RequestError as error:
        raise NotSentError(f"the target does not answer: {error!r}") from error
    return Done(args.number) if answer.status_code == 200 else None


def tools(_: BenchOptions) -> tuple[Tool, ...]:
    """One that does nothing, and one whose target tells what took effect."""
    return (
        Tool(name="bench.nothing", args=WorkArgs, run=_nothing, recovery=Recovery.IDEMPOTENT, concurrency=1024),
        Tool(
            name="bench.post",
            args=WorkArgs,
            run=_post,
            recovery=Recovery.VERIFIABLE,
            verify=_posted,
            target=TARGET,
            concurrency=64,
        ),
    )


@asynccontextmanager
async def connect(options: BenchOptions) -> AsyncIterator[Mapping[str, Any]]:
    """The client; nothing is sent yet."""
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx2.AsyncClient(base_url=options.url, timeout=4.0, limits=limits, trust_env=False) as client:
        yield {TARGET: client}


async def facts(context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
    """Facts that need no system."""
    return Sheet(facts=msgspec.Raw(b'{"blocked":false}'), amount=_AMOUNT)


def install() -> None:
    """Make the bench pack an installed one in this process."""
    if str(INSTALLED) not in sys.path:
        sys.path.insert(0, str(INSTALLED))
        importlib.invalidate_caches()


pack = Pack(
    name="bench",
    version="0.1.0",
    options=BenchOptions,
    events=(EventType(NOTHING, Work, taint=("/note",)), EventType(POST, Work, taint=("/note",))),
    tools=tools,
    connect=connect,
    playbooks=FOLDER / "playbooks",
    policies=FOLDER / "policies",
    facts=facts,
)
