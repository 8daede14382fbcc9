"""Real MCP servers: three from npm over standard input and output, and one of the Python SDK over streamable HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

from mesh.errors import NotSentError, ToolRefusedError, UncertainError
from mesh.mounts.folder import read_mount
from mesh.mounts.review import accept
from mesh.ports import free_port
from tests.mcp_servers.npm import NODE, server
from tests.mesh.mounts.mounting import Mounted, mounted, write

pytestmark = pytest.mark.timeout(60)  # node takes its time on a busy machine
SLOW = {"timeout_s": 15}


@asynccontextmanager
async def npm(
    folder: Path, name: str, *args: str, tools: list[Mapping[str, Any]], **more: Any
) -> AsyncIterator[Mounted]:
    """A server from npm, pinned and mounted."""
    content = {"kind": "mcp", "target": name, "command": [str(NODE), server(name), *args]}
    path = write(folder, name, {**content, "tools": [{**SLOW, **tool} for tool in tools], **more})
    await accept(read_mount(path, {}))
    async with mounted(path) as found:
        yield found


async def test_files_are_written_and_read_within_the_folder_that_the_server_was_given(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    tools: list[Mapping[str, Any]] = [
        {"name": "write_file", "tool": "files.write", "recovery": "idempotent", "errors": "refused"},
        {"name": "read_text_file", "tool": "files.read", "read_only": True},
    ]
    async with npm(tmp_path, "filesystem", str(root), tools=tools) as box:
        await box.call("files.write", path=str(root / "a.txt"), content="Zoë\n", in_s=30)
        answer = await box.call("files.read", path=str(root / "a.txt"))
        assert answer["text"] == "Zoë\n" and (root / "a.txt").read_text() == "Zoë\n"
        with pytest.raises(ToolRefusedError, match="outside allowed directories"):
            await box.call("files.write", path=str(tmp_path / "b.txt"), content="no", in_s=30)
        with pytest.raises(ToolRefusedError, match="unknown field"):
            await box.call("files.write", path=str(root / "a.txt"), content="x", mode="a", in_s=30)
    assert not (tmp_path / "b.txt").exists()


async def test_a_graph_of_entities_is_kept_and_searched(tmp_path: Path) -> None:
    tools: list[Mapping[str, Any]] = [
        {"name": "create_entities", "tool": "graph.create", "recovery": "idempotent"},
        {"name": "search_nodes", "tool": "graph.search", "read_only": True},
    ]
    env = {"env": ["PATH", "MEMORY_FILE_PATH"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMORY_FILE_PATH", str(tmp_path / "graph.json"))
        async with npm(tmp_path, "memory", tools=tools, **env) as box:
            entity = {"name": "Ann", "entityType": "customer", "observations": ["prefers mail"]}
            await box.call("graph.create", entities=[entity], in_s=30)
            found = await box.call("graph.search", query="mail")
            with pytest.raises(ToolRefusedError) as caught:
                await box.call("graph.create", entities=[{"name": "Bob"}], in_s=30)
    assert caught.value.code == "invalid_arguments"
    assert found["structured"]["entities"][0]["name"] == "Ann"
    assert (tmp_path / "graph.json").is_file()


async def test_the_server_with_every_feature_is_called_and_its_pictures_are_left_out(tmp_path: Path) -> None:
    tools: list[Mapping[str, Any]] = [
        {"name": "echo", "tool": "all.echo", "read_only": True},
        {"name": "get-sum", "tool": "all.sum", "read_only": True},
        {"name": "get-tiny-image", "tool": "all.image", "read_only": True},
        {"name": "trigger-long-running-operation", "tool": "all.slow", "timeout_s": 1, "attempts": 1},
    ]
    async with npm(tmp_path, "everything", tools=tools) as box:
        assert "Zoë" in (await box.call("all.echo", message="Zoë"))["text"]
        assert "5" in (await box.call("all.sum", a=2, b=3))["text"]
        assert (await box.call("all.image"))["left_out"] == ["image"]
        with pytest.raises(UncertainError, match="did not answer within"):
            await box.call("all.slow", duration=30, steps=3)
        assert "again" in (await box.call("all.echo", message="again"))["text"]


class Bank:
    """An MCP server of the Python SDK over HTTP, behind a bearer token."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.paid: list[dict[str, Any]] = []
        self.token = "s3cr3t-token"
        self.hang_up = False
        self.secret = folder / "token"
        self.secret.write_text(self.token)
        self.secret.chmod(0o600)
        self.mcp = MCPServer("bank")
        self.mcp.add_tool(self.pay)
        self.mcp.add_tool(self.tell)
        self.mcp.add_tool(self.fill)

    async def pay(self, account: str, cents: int, context: Context[Any, Any]) -> str:
        """Pay somebody."""
        meta = dict(context.request_context.meta or {})
        self.paid.append({"account": account, "cents": cents, "key": meta.get("workmesh/idempotency-key")})
        if self.hang_up:
            await asyncio.sleep(3600)
        return f"paid {cents}"

    async def tell(self) -> str:
        """Repeat what must not be told."""
        return f"you are {self.token}"

    async def fill(self) -> str:
        """Answer more than anybody wants."""
        return "z" * 10_000_000

    async def app(self, scope: Scope, receive: Receive, send: Send, inner: ASGIApp) -> None:
        """Refuse whoever has no token."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if headers.get(b"authorization") != f"Bearer {self.token}".encode():
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b"who are you"})
                return
        await inner(scope, receive, send)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve on the port while the block runs."""
        inner = self.mcp.streamable_http_app()

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send, inner)

        config = uvicorn.Config(guarded, port=self.port, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        running.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(running._serve())
        while not running.started:  # noqa: ASYNC110 - it tells of itself in no other way
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            running.should_exit = True
            await task


@asynccontextmanager
async def bank(folder: Path) -> AsyncIterator[tuple[Bank, Mounted]]:
    """The server, pinned, mounted and running; the test may stop it."""
    found = Bank(folder)
    tools = [
        {"name": "pay", "tool": "bank.pay", "timeout_s": 2, "attempts": 1},
        {"name": "tell", "tool": "bank.tell", "attempts": 1},
        {"name": "fill", "tool": "bank.fill", "attempts": 1, "timeout_s": 10},
    ]
    auth = {"kind": "bearer", "file": str(found.secret)}
    content = {
        "kind": "mcp",
        "target": "bank",
        "url": f"http://127.0.0.1:{found.port}/mcp",
        "auth": auth,
        "tools": tools,
    }
    path = write(folder, "bank", content)
    async with found.serving():
        await accept(read_mount(path, {}))
    async with mounted(path) as box:
        yield found, box


async def test_a_server_over_http_is_called_with_key_and_token_and_again_after_it_was_away(tmp_path: Path) -> None:
    async with bank(tmp_path) as (found, box):
        with pytest.raises(NotSentError, match="bank cannot be reached"):
            await box.call("bank.pay", "wm-t0", account="a", cents=1)
        async with found.serving():
            answer = await box.call("bank.pay", "wm-t1", account="a", cents=5)
            assert answer["text"] == "paid 5"
        with pytest.raises((NotSentError, UncertainError)) as lost:
            await box.call("bank.pay", "wm-t2", account="a", cents=6)
        assert isinstance(lost.value, NotSentError), lost.value
        async with found.serving():
            await box.call("bank.pay", "wm-t3", account="a", cents=7)
    assert [paid["key"] for paid in found.paid] == ["wm-t1", "wm-t3"]


async def test_a_wrong_token_was_sent_nothing_and_stands_in_no_error(tmp_path: Path) -> None:
    async with bank(tmp_path) as (found, box), found.serving():
        found.secret.write_text("stolen-token")
        with pytest.raises(NotSentError, match="401") as caught:
            await box.call("bank.pay", account="a", cents=5)
        assert "stolen-token" not in str(caught.value) and found.paid == []
        found.secret.write_text(found.token)
        told = await box.call("bank.tell")
    assert told["text"] == "you are [redacted]" and found.token not in str(told)


async def test_a_call_over_http_without_an_answer_is_uncertain_and_the_next_one_works(tmp_path: Path) -> None:
    async with bank(tmp_path) as (found, box), found.serving():
        await box.call("bank.pay", "wm-t1", account="a", cents=5)
        found.hang_up = True
        with pytest.raises(UncertainError):
            await box.call("bank.pay", "wm-t2", account="a", cents=6)
        found.hang_up = False
        await box.call("bank.pay", "wm-t3", account="a", cents=7)
    assert [paid["key"] for paid in found.paid] == ["wm-t1", "wm-t2", "wm-t3"]


async def test_an_answer_over_http_that_is_too_large_is_not_taken_and_harms_nobody(tmp_path: Path) -> None:
    async with bank(tmp_path) as (found, box), found.serving():
        with pytest.raises(UncertainError):
            await box.call("bank.fill")
        await box.call("bank.pay", "wm-t1", account="a", cents=5)
    assert len(found.paid) == 1


def test_what_the_lock_file_names_comes_from_the_public_registry_under_a_hash() -> None:
    path = Path(__file__).parents[2] / "mcp_servers" / "package-lock.json"
    packages: dict[str, Any] = json.loads(path.read_text())["packages"]
    for name, package in packages.items():
        if name:
            assert package["resolved"].startswith("https://registry.npmjs.org/"), name
            assert package["integrity"].startswith("sha512-") and not package.get("hasInstallScript"), name
    assert len(packages) > 3
