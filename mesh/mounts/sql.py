"""SQL statements as tools: named, parameterised, and done once, since each writes its key in its own transaction.

The rule: an effect and its key are committed together or not at all; so what came of a key can always be told.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from mesh.canonical import digest
from mesh.errors import SettingsError, ToolRefusedError
from mesh.mounts.declaration import Declaration, Name, Part, check_names, read_file
from mesh.mounts.postgres import Postgres
from mesh.mounts.schema import make_arguments
from mesh.mounts.sqlite import Sqlite
from mesh.mounts.statement import Statement, parse
from mesh.mounts.work import Rows, Work
from mesh.tools import Recovery, Tool, ToolCall


class SqlTool(Declaration, frozen=True, kw_only=True):
    """A statement. ``parameters`` has the JSON Schema of each; all are required.

    An effect is undone at once, and refused, unless it changes exactly ``changes`` rows, if that is given.
    """

    statement: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    recovery: Recovery = Recovery.IDEMPOTENT
    changes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    rows_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100


class SqlFile(Part, frozen=True, kw_only=True):
    """The mount's file. ``database`` is a path (sqlite) or a connection string without a password (postgres)."""

    kind: Literal["sql"]
    target: Name
    engine: Literal["sqlite", "postgres"]
    database: Annotated[str, msgspec.Meta(min_length=1)]
    tools: tuple[SqlTool, ...]
    password_file: str = ""
    connections: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    max_bytes: Annotated[int, msgspec.Meta(ge=256, le=1_000_000)] = 32_768


class Database(Protocol):
    """What runs statements; each implementation keeps the rule of this module."""

    async def read(self, work: Work) -> Rows:
        """Run a statement that cannot write."""
        ...

    async def write(self, work: Work, key: str, call_by: float) -> Rows:
        """Run a statement once under its key, and commit both; of a key that is known, the answer of then."""
        ...

    async def find(self, work: Work, key: str) -> Rows | None:
        """The answer under a key, or ``None`` when it was never committed."""
        ...


@dataclass(frozen=True, slots=True)
class SqlMount:
    """The statements of one database. Nothing is connected before a tool is called."""

    path: Path
    file: SqlFile

    @classmethod
    def read(cls, path: Path, values: Mapping[str, str]) -> "SqlMount":
        """The mount in this file; raises ``SettingsError``."""
        file = read_file(path, SqlFile, values)
        check_names(path, file.tools)
        return cls(path, file)

    @property
    def target(self) -> str:
        """What its tools call."""
        return self.file.target

    @property
    def declarations(self) -> tuple[SqlTool, ...]:
        """What the file declares."""
        return self.file.tools

    def tools(self) -> tuple[Tool, ...]:
        """The tools; raises ``SettingsError`` for a statement that cannot be one."""
        return tuple(self._tool(each) for each in self.file.tools)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Database]:
        """The database; its connections are closed with the block."""
        if self.file.engine == "sqlite":
            yield Sqlite(self.file.database)
            return
        async with Postgres.open(self.file.database, self.file.password_file, self.file.connections) as database:
            yield database

    def _tool(self, declared: SqlTool) -> Tool:
        statement = parse(declared.tool, declared.statement, read_only=declared.read_only)
        if set(statement.names) != declared.parameters.keys():
            wrong = sorted(set(statement.names) ^ declared.parameters.keys())
            raise SettingsError(f"{declared.tool}: its statement and its parameters differ in {', '.join(wrong)}")
        schema = {"type": "object", "properties": declared.parameters, "required": sorted(declared.parameters)}
        made = make_arguments(declared.tool, schema)
        prepared = _Prepared(declared, statement, self.file.max_bytes)

        async def run(args: msgspec.Struct, call: ToolCall) -> msgspec.Struct:
            database: Database = call.system
            work = prepared.work(args)
            if declared.read_only:
                return await database.read(work)
            return await database.write(work, call.key, call.call_by)

        async def verify(args: msgspec.Struct, call: ToolCall) -> msgspec.Struct | None:
            database: Database = call.system
            return await database.find(prepared.work(args), call.key)

        asks = None if declared.read_only else verify
        return declared.make(self.target, args=made.type, check=made.check, run=run, verify=asks)


@dataclass(frozen=True, slots=True)
class _Prepared:
    declared: SqlTool
    statement: Statement
    max_bytes: int

    def work(self, args: msgspec.Struct) -> Work:
        """The statement with its values; raises ``ToolRefusedError`` for a value that is not plain."""
        values: dict[str, Any] = msgspec.to_builtins(args)
        for name, value in values.items():
            if isinstance(value, list | dict):
                raise ToolRefusedError("invalid_arguments", f"{self.declared.tool}: {name} is no plain value")
        declared = self.declared
        same = digest({"tool": declared.tool, "statement": self.statement.text, "values": values})
        return Work(
            declared.tool,
            self.statement,
            values,
            same,
            declared.changes,
            declared.rows_max,
            self.max_bytes,
            declared.timeout_s,
        )
