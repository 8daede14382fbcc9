"""A billing service over HTTP with its OpenAPI document, for tests of mounts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mesh.mounts.folder import read_mount
from mesh.mounts.review import accept
from mesh.ports import free_port
from tests.mesh.mounts.mounting import Mounted, mounted, write

BODY: dict[str, Any] = {"customer": "ann", "cents": 5}
INVOICE = {
    "type": "object",
    "required": ["customer", "cents"],
    "properties": {
        "customer": {"type": "string", "minLength": 1},
        "cents": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        "note": {"type": "string", "nullable": True},
    },
    "additionalProperties": False,
}
DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "billing", "version": "1"},
    "servers": [{"url": "https://elsewhere.example"}],
    "paths": {
        "/invoices": {
            "post": {
                "operationId": "createInvoice",
                "parameters": [{"$ref": "#/components/parameters/Key"}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Invoice"}}},
                },
            },
            "get": {
                "operationId": "findInvoices",
                "parameters": [
                    {"name": "key", "in": "query", "schema": {"type": "string"}},
                    {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                ],
            },
        },
        "/invoices/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "getInvoice",
                "parameters": [{"name": "X-Language", "in": "header", "schema": {"type": "string"}}],
            },
            "delete": {"operationId": "deleteInvoice"},
        },
    },
    "components": {
        "schemas": {"Invoice": INVOICE},
        "parameters": {"Key": {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}},
    },
}
MODERN = msgspec.yaml.decode(
    yaml.safe_dump({**DOCUMENT, "openapi": "3.1.0"})
    .replace("exclusiveMinimum: true", "exclusiveMinimum: 0")
    .replace("          minimum: 0\n", "", 1)
    .replace("nullable: true\n          type: string", "type: [string, 'null']")
)
CREATE = {
    "tool": "billing.create",
    "operation": "createInvoice",
    "recovery": "idempotent",
    "key_header": "Idempotency-Key",
    "call_by_header": "Request-Deadline",
    "verify": {"operation": "findInvoices", "key": "key", "found": "/items/0"},
    "timeout_s": 1,
    "attempts": 1,
}
TOOLS: list[dict[str, Any]] = [
    CREATE,
    {"tool": "billing.get", "operation": "getInvoice", "read_only": True, "attempts": 1, "timeout_s": 2},
    {"tool": "billing.find", "operation": "findInvoices", "read_only": True, "attempts": 1},
    {"tool": "billing.delete", "operation": "deleteInvoice", "attempts": 1},
]


@dataclass
class Billing:
    """A service that keeps invoices by key, and answers the next request as it is told to."""

    port: int = field(default_factory=free_port)
    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    answer: Response | None = None
    hang: bool = False

    async def create(self, request: Request) -> Response:
        """Make an invoice, once under its key."""
        self.requests.append(request)
        if self.answer is not None:
            return self.answer
        self.invoices.setdefault(request.headers["idempotency-key"], await request.json())
        if self.hang:
            await asyncio.sleep(3600)
        return JSONResponse({"invoices": len(self.invoices)}, status_code=201)

    async def find(self, request: Request) -> Response:
        """Invoices by key."""
        self.requests.append(request)
        found = self.invoices.get(request.query_params.get("key", ""))
        return self.answer or JSONResponse({"items": [found] if found else []})

    async def one(self, request: Request) -> Response:
        """Repeat what was asked."""
        self.requests.append(request)
        return self.answer or JSONResponse({"id": request.path_params["id"], "path": request.scope["path"]})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        routes = [
            Route("/v1/invoices", self.create, methods=["POST"]),
            Route("/v1/invoices", self.find),
            Route("/v1/invoices/{id:path}", self.one, methods=["GET", "DELETE"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), port=self.port, log_level="critical", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve())
        while not server.started:  # noqa: ASYNC110 - it tells of itself in no other way
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True
            await task


def mount_file(folder: Path, billing: Billing, *, document: Any = DOCUMENT, tools: Any = TOOLS, **more: Any) -> Path:
    """The mount's file, with the document beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "billing.openapi.yaml").write_text(yaml.safe_dump(document))
    content = {"kind": "openapi", "target": "billing", "document": "billing.openapi.yaml", "tools": tools}
    return write(folder, "billing", {**content, "url": f"http://127.0.0.1:{billing.port}/v1", **more})


@asynccontextmanager
async def service(folder: Path, **more: Any) -> AsyncIterator[tuple[Billing, Mounted]]:
    """The service, pinned, mounted and running."""
    billing = Billing()
    path = mount_file(folder / "mounts", billing, **more)
    await accept(read_mount(path, {}))
    async with billing.serving(), mounted(path) as box:
        yield billing, box
