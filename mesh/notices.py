"""Notices: what a policy obliges to tell somebody once a step has succeeded, as a file or over HTTP.

The rule: a notice has a key and is there once, however often it is delivered.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import httpx2
import msgspec

from mesh import files
from mesh.clock import now
from mesh.errors import NotSentError, SettingsError, ToolRefusedError, UncertainError
from mesh.settings import Settings
from mesh.toolbox import Toolbox
from mesh.tools import Recovery, Tool, ToolCall

TOOL: Final = "workmesh.notice"
_TARGET = "notices"
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_LATER = {408, 421, 425, 429}  # 4xx that do not say no for good


class NoticeArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of what: a step that succeeded, and the policies that let it. ``amount`` is in minor units."""

    who: str
    task_id: str
    domain: str
    step: str
    tool: str
    amount: int = 0
    currency: str = ""
    policies: tuple[str, ...] = ()


class Delivered(msgspec.Struct, frozen=True):
    """Where a notice went."""

    to: str


class Deliverer(Protocol):
    """Where notices go."""

    async def deliver(self, key: str, args: NoticeArgs, timeout_s: float) -> Delivered:
        """Have the notice there once; raises a ``ToolError``."""
        ...


class NoticeFolder:
    """One file a notice, mode 0600, named by its key: there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def deliver(self, key: str, args: NoticeArgs, timeout_s: float) -> Delivered:
        """Write the file, unless it is there; raises ``NotSentError`` while the disk does not take it."""
        try:
            return await asyncio.to_thread(self._write, key, args)
        except OSError as error:
            raise NotSentError(f"the notice {key} was not written: {error}") from error

    def _write(self, key: str, args: NoticeArgs) -> Delivered:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{key}.json"
        if not path.exists():
            part = self._folder / f".{key}.{secrets.token_hex(4)}"
            try:
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(msgspec.json.format(_event(key, args), indent=2) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):  # another process told it in this moment
                    os.link(part, path)
            finally:
                part.unlink(missing_ok=True)
        files.sync_folder(self._folder)
        return Delivered(to=str(path))


class NoticeHook:
    """A CloudEvent to a URL; the receiver knows one that comes again by ``Idempotency-Key``, and by its id."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def deliver(self, key: str, args: NoticeArgs, timeout_s: float) -> Delivered:
        """Post it; a 4xx is a refusal for good."""
        headers = {"content-type": "application/cloudevents+json", "idempotency-key": key}
        try:
            answer = await self._client.post(self._url, content=_event(key, args), headers=headers, timeout=timeout_s)
        except _NOT_SENT as error:
            raise NotSentError(f"{_TARGET} cannot be reached: {error!r}") from error
        except httpx2.RequestError as error:
            raise UncertainError(f"{_TARGET} did not answer: {error!r}") from error
        if 400 <= answer.status_code < 500 and answer.status_code not in _LATER:
            raise ToolRefusedError(str(answer.status_code), f"{_TARGET} refused {key}: {answer.status_code}")
        if not answer.is_success:
            raise UncertainError(f"{_TARGET} answered {answer.status_code}")
        return Delivered(to=str(answer.url.copy_with(userinfo=b"", query=None)))


def notice_tool(timeout_s: float) -> Tool:
    """The tool that delivers notices; its system is a ``Deliverer``."""

    async def run(args: NoticeArgs, call: ToolCall) -> Delivered:
        deliverer: Deliverer = call.system
        return await deliverer.deliver(call.key, args, 0.9 * timeout_s)

    return Tool(name=TOOL, args=NoticeArgs, run=run, recovery=Recovery.IDEMPOTENT, target=_TARGET, timeout_s=timeout_s)


@asynccontextmanager
async def noticing(settings: Settings) -> AsyncIterator[Toolbox]:
    """The toolbox of notices as the settings say; raises ``SettingsError``."""
    said = settings.notices
    if said.url and said.folder:
        raise SettingsError("notices.folder and notices.url are both set: notices go to one of them")
    async with contextlib.AsyncExitStack() as stack:
        system: Any = NoticeFolder(_folder(settings))
        if said.url:
            if not said.url.startswith(("http://", "https://")):
                raise SettingsError(f"notices.url {said.url!r} is no address: http:// or https://")
            client = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False))
            system = NoticeHook(client, said.url)
        yield Toolbox({TOOL: notice_tool(said.timeout_s)}, {_TARGET: system})


def _folder(settings: Settings) -> Path:
    said = settings.notices.folder
    return Path(said).expanduser() if said else settings.state_dir / "notices"


def _event(key: str, args: NoticeArgs) -> bytes:
    """The notice as a CloudEvent, structured mode in JSON."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": key,
            "source": f"/workmesh/{args.domain}",
            "type": TOOL,
            "subject": args.task_id,
            "time": now(),
            "datacontenttype": "application/json",
            "data": args,
        }
    )
