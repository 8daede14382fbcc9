"""Mounting a server in a test: its file, its pins, a toolbox on it, and calls through the toolbox."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mesh.mounts.folder import Mount, read_mount
from mesh.mounts.review import accept
from mesh.toolbox import Toolbox

ROOT = Path(__file__).parents[3]
HOSTILE = ROOT / "tests" / "mcp_servers" / "hostile.py"

PAY = {
    "name": "pay",
    "description": "Pay somebody.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "account": {"type": "string", "maxLength": 20},
            "cents": {"type": "integer", "minimum": 1},
            "request_id": {"type": "string"},
        },
        "required": ["account", "cents"],
    },
}
LOOK = {"name": "look", "description": "Look.", "inputSchema": {"type": "object", "properties": {}}}


@dataclass
class Mounted:
    """A mount with its toolbox."""

    mount: Mount
    box: Toolbox

    async def call(self, tool: str, key: str = "wm-t-s", /, *, epoch: int = 1, in_s: float = 10.0, **args: Any) -> Any:
        """The answer to a call."""
        raw = msgspec.Raw(msgspec.json.encode(args))
        answer = await self.box.call(self.box.find(tool), raw, key=key, epoch=epoch, call_by=time.time() + in_s)
        return msgspec.json.decode(answer)

    async def verify(self, tool: str, key: str = "wm-t-s", /, **args: Any) -> Any:
        """What the target says of a key."""
        raw = msgspec.Raw(msgspec.json.encode(args))
        answer = await self.box.verify(self.box.find(tool), raw, key=key, epoch=1)
        return None if answer is None else msgspec.json.decode(answer)


def write(folder: Path, name: str, content: Mapping[str, Any]) -> Path:
    """Write a mount's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dict(content)))
    return path


@asynccontextmanager
async def mounted(path: Path, **values: str) -> AsyncIterator[Mounted]:
    """A mount that is open, with a toolbox."""
    mount = read_mount(path, values)
    tools = {tool.name: tool for tool in mount.tools()}
    async with mount.open() as system:
        yield Mounted(mount, Toolbox(tools, {mount.target: system}))


@dataclass
class Hostile:
    """The hostile server of a test: what it is to do, and what it did."""

    folder: Path

    def behave(self, call: str = "answer", tools: tuple[Mapping[str, Any], ...] = (PAY, LOOK), **more: Any) -> None:
        """What it does from its next request on."""
        path = self.folder / "behaviour.tmp"
        path.write_text(json.dumps({"call": call, "tools": tools, **more}))
        path.rename(self.folder / "behaviour.json")

    @property
    def done(self) -> list[dict[str, Any]]:
        """Its effects."""
        path = self.folder / "done"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pids(self) -> list[int]:
        """Its processes so far."""
        path = self.folder / "pids"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def file(self, *tools: Mapping[str, Any], **more: Any) -> Path:
        """A mount of it."""
        content = {"kind": "mcp", "target": "hostile", "command": [sys.executable, str(HOSTILE), str(self.folder)]}
        return write(self.folder / "mounts", "hostile", {**content, "tools": [dict(tool) for tool in tools], **more})


PAYING: Mapping[str, Any] = {"name": "pay", "tool": "bank.pay", "timeout_s": 3, "attempts": 1}


@asynccontextmanager
async def hostile(folder: Path, **declared: Any) -> AsyncIterator[tuple[Hostile, Mounted]]:
    """The hostile server with its two tools pinned, and mounted."""
    server = Hostile(folder)
    server.behave()
    more = declared.pop("mount", {})
    look = {"name": "look", "tool": "bank.look", "read_only": True, "timeout_s": declared.get("timeout_s", 3)}
    path = server.file({**PAYING, **declared}, look, **more)
    await accept(read_mount(path, {}))
    async with mounted(path) as found:
        yield server, found
    for pid in server.pids:
        await gone(pid)


async def gone(pid: int) -> None:
    """Wait until there is no such process."""
    async with asyncio.timeout(8):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.02)
