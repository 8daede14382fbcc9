"""What the retail tests share: events as contexts, plans and sheets as the processes make them, and a bad server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from agents.planner.planning import Inputs, make_plan
from agents.planner.playbook import Playbook, choose, load_playbooks
from mesh.admission import Accepted, read
from mesh.clock import now
from mesh.pack import Sheet
from mesh.records import Call, Causation, Context, Event, Header, Plan, Reading, Verdict
from mesh.toolbox import Toolbox
from packs.retail.pack import RetailOptions, pack, tools
from policy_service.bundle import Bundle, BundleContents
from policy_service.engine import Assessment, Circumstances, assess

PACKS = {"retail": pack}


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def accept(event: Mapping[str, Any]) -> Context:
    """The context that perception writes for an event, which must be acceptable."""
    data = json.dumps(event).encode()
    accepted = read(data, {}, PACKS)
    assert isinstance(accepted, Accepted), accepted
    stored = Event(
        id=accepted.event.id,
        source=accepted.event.source,
        type=accepted.event.type,
        time=accepted.event.time,
        digest=accepted.digest,
        seq=1,
        accepted_at=now(),
        subject=accepted.event.subject,
    )
    return Context(
        header=_header(accepted.task_id),
        event=stored,
        data=accepted.event.data,
        entity=accepted.entity,
        taint=accepted.kind.taint,
    )


def _header(task_id: str) -> Header:
    causation = Causation(stream="EVENTS", subject="event.retail.test", seq=1)
    return Header(task_id=task_id, domain="retail", causation=causation, writer="test/1", at=now())


def toolbox(systems: Mapping[str, Any], **options: Any) -> Toolbox:
    """The pack's tools over these systems."""
    return Toolbox({tool.name: tool for tool in tools(RetailOptions(**options))}, systems)


@cache
def playbooks() -> tuple[Playbook, ...]:
    """The pack's playbooks."""
    return load_playbooks(pack.playbooks, {tool.name: tool for tool in tools(RetailOptions())})


@cache
def bundle() -> Bundle:
    """The pack's policies."""
    return Bundle.load(BundleContents.read(pack.policies, "retail"))


async def plan_for(context: Context, systems: Mapping[str, Any]) -> Plan:
    """The plan that the planner makes, with readings made now and nothing in memory."""
    inputs = Inputs(context)
    playbook = choose(playbooks(), context.event.type, inputs.variables)
    assert playbook is not None
    box, readings = toolbox(systems), []
    for name, invocation in playbook.reads:
        args = invocation.arguments(inputs.variables)
        tool = box.find(invocation.tool)
        answer = await box.call(tool, args, key="read", epoch=0, call_by=time.time() + tool.timeout_s)
        readings.append(Reading(name=name, call=Call(tool=invocation.tool, args=args), answer=answer))
    return make_plan(playbook, Inputs(context, tuple(readings)), _header(context.header.task_id))


async def sheets_for(context: Context, plan: Plan, systems: Mapping[str, Any]) -> dict[str, Sheet]:
    """What the information point reads of each step."""
    return {step.id: await pack.facts(context, plan, step, systems) for step in plan.steps}


async def assessed(context: Context, plan: Plan, systems: Mapping[str, Any]) -> Assessment:
    """What policy says of a plan before any approval."""
    around = Circumstances(at=datetime(2026, 1, 2, tzinfo=UTC))
    return assess(bundle(), context, plan, await sheets_for(context, plan, systems), frozenset(), around)


def is_denied(assessment: Assessment) -> bool:
    """Whether policy says no."""
    return assessment.verdict is Verdict.DENY


def with_args(plan: Plan, step_id: str, **changed: Any) -> Plan:
    """The plan with other arguments in one step, as a planner that is not to be trusted might write it."""

    def changed_call(call: Call) -> Call:
        args = msgspec.json.decode(call.args, type=dict[str, Any]) | changed
        return msgspec.structs.replace(call, args=msgspec.Raw(msgspec.json.encode(args)))

    steps = (
        msgspec.structs.replace(step, call=changed_call(step.call)) if step.id == step_id else step
        for step in plan.steps
    )
    return msgspec.structs.replace(plan, steps=tuple(steps))


class BadServer:
    """A server on loopback that answers every request with the same bytes; ``None`` never answers, b"" hangs up."""

    def __init__(self, answer: bytes | None) -> None:
        self.url = ""
        self.requests: list[bytes] = []
        self._answer = answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, hang up."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.requests.append(head + body)
            if self._answer is None:
                await reader.read()  # until the client gives up
            else:
                writer.write(self._answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def bad_server(answer: bytes | None) -> AsyncIterator[BadServer]:
    """A running bad server."""
    bad = BadServer(answer)
    async with await asyncio.start_server(bad.handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bad.url = f"http://127.0.0.1:{port}"
        yield bad


def http(status: int, body: bytes = b"") -> bytes:
    """An HTTP answer as bytes."""
    head = f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    return head.encode() + (b"location: /elsewhere\r\n" if 300 <= status < 400 else b"") + b"\r\n" + body
