"""Tools of an MCP server: a file says which, and how the runtime treats each; pins say what they are.

The rule: nothing that the server says of its tools is believed. What was reviewed is pinned, what it answers is text
from outside, and a call without an answer is uncertain.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mesh.errors import SettingsError
from mesh.mounts.declaration import Declaration, Name, Part, Seconds, check_names, read_file, source_of
from mesh.mounts.mcp_server import Arrangement, McpServer, Wanted
from mesh.mounts.pins import Pinned, pins_path, read_pins
from mesh.mounts.schema import make_arguments
from mesh.mounts.secret import Auth
from mesh.tools import Recovery, Tool, ToolCall


class McpTool(Declaration, frozen=True, kw_only=True):
    """One tool of the server, by its ``name`` there.

    ``key_argument`` is the argument that takes the effect key, if it has one. ``errors`` says what an error that the
    tool itself reports means: that nothing took effect (``refused``), or nobody knows.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    key_argument: str = ""
    errors: Literal["refused", "uncertain"] = "uncertain"


class McpFile(Part, frozen=True, kw_only=True):
    """The mount's file. A server is a ``command`` or a ``url``.

    ``env`` names the variables that a command gets from ours, ``env_files`` those whose value is a secret in a file.
    """

    kind: Literal["mcp"]
    target: Name
    tools: tuple[McpTool, ...]
    command: tuple[str, ...] = ()
    folder: str | None = None
    env: tuple[str, ...] = ("PATH",)
    env_files: dict[str, str] = msgspec.field(default_factory=dict)
    url: str = ""
    auth: Auth | None = None
    start_s: Seconds = 15.0
    recheck_s: Seconds = 30.0
    max_bytes: Annotated[int, msgspec.Meta(ge=256, le=1_000_000)] = 32_768

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ValueError("a server is either a command or a url")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"a url begins with http:// or https://, not {self.url[:50]!r}")


@dataclass(frozen=True, slots=True)
class McpMount:
    """A server's tools as they are declared and pinned. Nothing is started before a tool is called."""

    path: Path
    file: McpFile
    pins: Mapping[str, Pinned]

    @classmethod
    def read(cls, path: Path, values: Mapping[str, str]) -> "McpMount":
        """The mount in this file; raises ``SettingsError``, but not for a tool that is not pinned yet."""
        file = read_file(path, McpFile, values)
        check_names(path, file.tools)
        for each in file.tools:
            if each.recovery is Recovery.VERIFIABLE:
                raise SettingsError(
                    f"the mount {path}: {each.tool} cannot be verifiable: MCP has no question about a key"
                )
        return cls(path, file, {each.name: each for each in read_pins(path).tools})

    @property
    def target(self) -> str:
        """What its tools call: a breaker is for it, and their system is found under it."""
        return self.file.target

    @property
    def declarations(self) -> tuple[McpTool, ...]:
        """What the file declares."""
        return self.file.tools

    def tools(self) -> tuple[Tool, ...]:
        """The tools; raises ``SettingsError`` for one that nobody has pinned."""
        return tuple(self._tool(each) for each in self.file.tools)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[McpServer]:
        """The server, not started yet; it ends with the block."""
        async with McpServer.open(self.arrangement()) as server:
            yield server

    def arrangement(self) -> Arrangement:
        """How the server is reached, and what its tools must be."""
        file = self.file
        return Arrangement(
            target=file.target,
            source=source_of(self.path),
            command=file.command,
            folder=file.folder,
            env=file.env,
            env_files=file.env_files,
            url=file.url,
            auth=file.auth,
            start_s=file.start_s,
            recheck_s=file.recheck_s,
            longest_s=max((each.timeout_s for each in file.tools), default=5.0),
            max_bytes=file.max_bytes,
            pinned={name: pin.digest for name, pin in self.pins.items()},
        )

    def _tool(self, declared: McpTool) -> Tool:
        pin = self.pins.get(declared.name)
        if pin is None:
            raise SettingsError(
                f"{declared.tool}: {declared.name} of {self.target} is not pinned in {pins_path(self.path)}: review it "
                f"with `workmesh tools check {source_of(self.path)}`, accept it with `workmesh tools pin`"
            )
        schema: Mapping[str, Any] = msgspec.json.decode(pin.input_schema)
        if declared.key_argument and declared.key_argument not in schema.get("properties", {}):
            raise SettingsError(
                f"{declared.tool}: {declared.name} has no argument {declared.key_argument!r} for the key"
            )
        made = make_arguments(declared.tool, schema, without=declared.key_argument)
        wanted = Wanted(
            declared.name, declared.tool, declared.read_only, declared.timeout_s, declared.key_argument, declared.errors
        )

        async def run(args: msgspec.Struct, call: ToolCall) -> msgspec.Struct:
            server: McpServer = call.system
            return await server.call(wanted, args, call)

        # The pinned description is not taken over: text of the server goes to nobody who did not ask for it.
        return declared.make(self.target, args=made.type, check=made.check, run=run, outside=("",))
