"""The outbreak demonstration: the registry as a process of its own, and what it says of what was done to it."""

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh.demo import Applied, Systems
from mesh.supervisor import ChildSpec
from packs.outbreak.wire import AlertLine, AlertState, ClaimState, Export, LogEntry

_PAGE = 1000
_LIMIT_S = 30.0


class _Log(msgspec.Struct):
    changes: list[LogEntry]


class _AlertWanted(msgspec.Struct):
    alert: str
    state: AlertState
    approved: int


class _NumberWanted(msgspec.Struct):
    series: str
    week: str
    count: int


class _Expected(msgspec.Struct):
    id: str
    outcome: str
    alert: _AlertWanted | None = None
    number: _NumberWanted | None = None


class _World(msgspec.Struct):
    registry: Export
    pages: dict[str, str]


class OutbreakDemo:
    """Runs the registry on the given data; the sample is the pack's own. Two people approve."""

    sample = Path(__file__).parent / "sample"
    roles: tuple[str, ...] = ("epidemiologist", "duty_officer")

    def systems(self, data: Path, folder: Path, faults: Mapping[str, Any]) -> Systems:
        """The registry on a free port of 127.0.0.1. ``faults`` are its own, for tests."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        port = _free_port()
        argv = [sys.executable, "-m", "packs.outbreak.registry", "--data", str(data.resolve())]
        argv += ["--db", str(folder / "registry.db"), "--port", str(port)]
        if faults:
            argv += ["--faults-json", msgspec.json.encode(faults).decode()]
        options = {"registry_url": f"http://127.0.0.1:{port}"}
        return Systems([ChildSpec("registry", tuple(argv), folder / "registry.log")], options)

    async def applied(self, options: Mapping[str, Any]) -> list[Applied]:
        """The registry's log."""
        found: list[Applied] = []
        after = 0
        async with _client(options) as client:
            while True:
                answer = await client.get("/changes", params={"after": after, "limit": _PAGE})
                page = msgspec.json.decode(answer.raise_for_status().content, type=_Log).changes
                if not page:
                    return found
                found += [Applied(entry.key, entry.kind) for entry in page]
                after = page[-1].seq

    async def world(self, options: Mapping[str, Any]) -> msgspec.Raw:
        """The registry's export, and the public page of each alert."""
        async with _client(options) as client:
            answer = (await client.get("/export")).raise_for_status()
            registry = msgspec.json.decode(answer.content, type=Export)
            pages = {line.alert: await client.get(f"/alerts/{line.alert}") for line in registry.alerts}
        texts = {alert: page.raise_for_status().text for alert, page in pages.items()}
        return msgspec.Raw(msgspec.json.encode({"registry": registry, "pages": texts}))

    def differences(self, expected: Sequence[bytes], world: msgspec.Raw) -> list[str]:
        """Exactly the alerts that are expected, each approved by two people and with its page; the numbers expected."""
        seen = msgspec.json.decode(world, type=_World)
        lines = [msgspec.json.decode(raw, type=_Expected) for raw in expected]
        wanted = {line.alert.alert: line.alert for line in lines if line.alert}
        alerts = {line.alert: line for line in seen.registry.alerts}
        found = [f"alert {name} was not expected" for name in alerts if name not in wanted]
        for name, want in wanted.items():
            found += _wrong(want, alerts.get(name), seen.pages.get(name, ""))
        return found + [wrong for line in lines if line.number for wrong in _miscounted(line.number, seen.registry)]


def _wrong(want: _AlertWanted, line: AlertLine | None, page: str) -> list[str]:
    if line is None:
        return [f"alert {want.alert} was not published"]
    found = []
    if line.state != want.state:
        found.append(f"alert {want.alert} is {line.state}, expected {want.state}")
    if len(set(line.approved_by)) < want.approved:
        found.append(f"alert {want.alert} was approved by {len(set(line.approved_by))}, expected {want.approved}")
    if line.state is AlertState.WITHDRAWN and not line.withdrawn_by:
        found.append(f"alert {want.alert} was withdrawn by nobody")
    found += [
        f"the page of {want.alert} does not name {part}" for part in (line.week, *line.approved_by) if part not in page
    ]
    return found


def _miscounted(want: _NumberWanted, registry: Export) -> list[str]:
    claims = registry.claims.get(want.series, ())
    standing = {claim.count for claim in claims if claim.week == want.week and claim.state is ClaimState.STANDING}
    if standing == {want.count}:
        return []
    return [f"{want.series} {want.week}: {sorted(standing)} stand, expected {want.count}"]


def _client(options: Mapping[str, Any]) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=options["registry_url"], timeout=_LIMIT_S, trust_env=False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


demo = OutbreakDemo()
