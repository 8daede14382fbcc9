"""Operations of an HTTP service as tools, from its OpenAPI document (3.0 or 3.1), which the pack ships and pins.

The rule: the document says what can be asked and the pack which of it; only the pack says how an effect is settled.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from mesh.errors import SettingsError
from mesh.mounts.declaration import Declaration, Name, Part, Seconds, check_names, document_digest, read_file, source_of
from mesh.mounts.openapi_document import find_operation, schema_of
from mesh.mounts.openapi_service import Address, Question, Service, Settling
from mesh.mounts.pins import pins_path, read_pins
from mesh.mounts.schema import make_arguments
from mesh.mounts.secret import Auth
from mesh.tools import Recovery, Tool, ToolCall


class Verification(Part, frozen=True, kw_only=True):
    """A GET operation that tells what came of a key: ``key`` is the parameter that takes it.

    The effect happened when the answer has a value at ``found`` (a JSON pointer); 404 says that it did not.
    """

    operation: str
    key: str
    found: Annotated[str, msgspec.Meta(pattern=r"^(/.*)?\Z")] = ""


class OpenApiTool(Declaration, frozen=True, kw_only=True):
    """One ``operation`` by its operationId. The headers are set by the mount: no plan can give them."""

    operation: str
    key_header: str = ""
    call_by_header: str = ""
    verify: Verification | None = None


class OpenApiFile(Part, frozen=True, kw_only=True):
    """The mount's file. ``document`` stands beside it; ``url`` is used, whatever servers the document names."""

    kind: Literal["openapi"]
    target: Name
    document: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]+(\.openapi\.yaml|\.json)\Z")]
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^?#@]+\Z")]
    tools: tuple[OpenApiTool, ...]
    auth: Auth | None = None
    connect_s: Seconds = 1.0
    max_bytes: Annotated[int, msgspec.Meta(ge=256, le=8_000_000)] = 262_144


@dataclass(frozen=True, slots=True)
class OpenApiMount:
    """The operations of one service. Nothing is connected before a tool is called."""

    path: Path
    file: OpenApiFile

    @classmethod
    def read(cls, path: Path, values: Mapping[str, str]) -> "OpenApiMount":
        """The mount in this file; raises ``SettingsError``."""
        file = read_file(path, OpenApiFile, values)
        check_names(path, file.tools)
        return cls(path, file)

    @property
    def target(self) -> str:
        """What its tools call."""
        return self.file.target

    @property
    def declarations(self) -> tuple[OpenApiTool, ...]:
        """What the file declares."""
        return self.file.tools

    @property
    def document(self) -> Path:
        """Where the document is."""
        return self.path.parent / self.file.document

    def tools(self) -> tuple[Tool, ...]:
        """The tools; raises ``SettingsError`` when the document is not the pinned one, or lacks an operation."""
        now, pinned = document_digest(self.document), read_pins(self.path).document
        if now != pinned:
            raise SettingsError(
                f"{self.document} is not the document that was reviewed: {pins_path(self.path).name} has "
                f"{pinned or 'nothing'}, it is {now}; accept it with `workmesh tools pin {source_of(self.path)}`"
            )
        document = read_document(self.document)
        return tuple(self._tool(each, document) for each in self.file.tools)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Service]:
        """A client of the service; nothing is sent yet."""
        address = Address(self.target, self.file.url, self.file.auth, self.file.connect_s, self.file.max_bytes)
        async with Service.open(address) as service:
            yield service

    def _tool(self, declared: OpenApiTool, document: Mapping[str, Any]) -> Tool:
        operation = find_operation(document, declared.operation)
        if (operation.method in ("get", "head")) is not declared.read_only:
            raise SettingsError(f"{declared.tool}: read_only is for GET and HEAD, not for {operation.method.upper()}")
        if declared.recovery is Recovery.IDEMPOTENT and operation.method == "post" and not declared.key_header:
            raise SettingsError(f"{declared.tool}: an idempotent POST needs a key_header that the service honours")
        set_here = {name.lower() for name in (declared.key_header, declared.call_by_header) if name}
        schema = schema_of(operation, document, without_headers=set_here)
        made = make_arguments(declared.tool, schema)
        settling = Settling(declared.tool, declared.read_only, declared.key_header, declared.call_by_header)

        async def run(args: msgspec.Struct, call: ToolCall) -> msgspec.Struct:
            service: Service = call.system
            return await service.call(operation, msgspec.to_builtins(args), settling, call)

        question = self._question(declared, document)

        async def verify(_: msgspec.Struct, call: ToolCall) -> msgspec.Struct | None:
            service: Service = call.system
            assert question is not None
            return await service.find(question, call)

        asks = None if question is None else verify
        return declared.make(self.target, args=made.type, check=made.check, run=run, verify=asks, outside=("",))

    def _question(self, declared: OpenApiTool, document: Mapping[str, Any]) -> Question | None:
        found = declared.verify
        if found is None:
            return None
        operation = find_operation(document, found.operation)
        if operation.method != "get":
            raise SettingsError(f"{declared.tool}: {found.operation} is no GET: asking must change nothing")
        if found.key not in operation.names:
            raise SettingsError(f"{declared.tool}: {found.operation} has no parameter {found.key!r} for the key")
        return Question(operation, found.key, found.found)


def read_document(path: Path) -> Mapping[str, Any]:
    """The document, JSON or YAML; raises ``SettingsError``."""
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data) if path.suffix == ".json" else yaml.safe_load(data)
    except (OSError, yaml.YAMLError, msgspec.DecodeError) as error:
        raise SettingsError(f"the document {path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not str(found.get("openapi", "")).startswith(("3.0", "3.1")):
        raise SettingsError(f"the document {path} is no OpenAPI 3.0 or 3.1")
    return found
