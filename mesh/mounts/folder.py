"""The mounts of a pack: every YAML file of a folder, by its kind, and what opens them together.

The rule: reading a folder asks nothing outside of it; a target that is away fails calls, never a start.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import msgspec
import yaml

from mesh.errors import SettingsError
from mesh.mounts.declaration import Declaration
from mesh.tools import Tool


class Mount(Protocol):
    """One target with its tools."""

    @property
    def path(self) -> Path:
        """Its file."""
        ...

    @property
    def target(self) -> str:
        """What its tools call."""
        ...

    @property
    def declarations(self) -> Sequence[Declaration]:
        """What its file declares."""
        ...

    def tools(self) -> tuple[Tool, ...]:
        """Its tools; raises ``SettingsError``, also for what was not reviewed."""
        ...

    def open(self) -> AbstractAsyncContextManager[Any]:
        """What its tools call as ``ToolCall.system``, under its target."""
        ...


# Imported when a file needs it: a pack with a few statements does not pay for the client of MCP servers.
_KINDS: Mapping[str, tuple[str, str]] = {
    "mcp": ("mesh.mounts.mcp", "McpMount"),
    "openapi": ("mesh.mounts.openapi", "OpenApiMount"),
    "smtp": ("mesh.mounts.smtp", "SmtpMount"),
    "sql": ("mesh.mounts.sql", "SqlMount"),
}


def values_of(options: msgspec.Struct) -> dict[str, str]:
    """A pack's options as values for ``${name}`` in its mounts: those that are plain."""
    found = msgspec.to_builtins(options)
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int | float)}


def read_mount(path: Path, values: Mapping[str, str]) -> Mount:
    """The mount in this file; raises ``SettingsError``."""
    try:
        found = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"the mount {path} cannot be read: {error}") from error
    kind = found.get("kind") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SettingsError(f"the mount {path}: kind is one of {', '.join(_KINDS)}, not {kind!r}")
    module, name = _KINDS[kind]
    mount: Mount = getattr(import_module(module), name).read(path, values)
    return mount


def mount_files(folder: Path) -> tuple[Path, ...]:
    """The mounts' files of a folder, by name; none if there is no folder. An OpenAPI document is none."""
    files = sorted(path for path in folder.glob("*.yaml") if not path.name.endswith(".openapi.yaml"))
    return tuple(files)


def read_mounts(folder: Path, values: Mapping[str, str]) -> tuple[Mount, ...]:
    """All mounts of a folder; raises ``SettingsError`` also for a target or a tool that two of them have."""
    mounts = tuple(read_mount(path, values) for path in mount_files(folder))
    for kind, names in (
        ("target", [mount.target for mount in mounts]),
        ("tool", [each.tool for mount in mounts for each in mount.declarations]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SettingsError(f"the mounts in {folder} have more than one {kind} named {twice[0]}")
    return mounts


def tools_of(mounts: Sequence[Mount]) -> tuple[Tool, ...]:
    """The tools of all mounts; raises ``SettingsError``."""
    return tuple(tool for mount in mounts for tool in mount.tools())


@asynccontextmanager
async def opened(mounts: Sequence[Mount]) -> AsyncIterator[dict[str, Any]]:
    """The systems of all mounts, by target; closed with the block."""
    async with AsyncExitStack() as stack:
        yield {mount.target: await stack.enter_async_context(mount.open()) for mount in mounts}
