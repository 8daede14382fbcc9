"""The retail pack: a shop's customer requests, handled under its rules."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from mesh.mounts.smtp import SmtpServer
from mesh.pack import Pack
from mesh.tools import Recovery, Tool
from packs.retail.applied import shop_log
from packs.retail.client import Shop
from packs.retail.events import EVENTS
from packs.retail.outbox import FolderOutbox, SmtpOutbox
from packs.retail.point import read_facts
from packs.retail.tools import OUTBOX, SHOP, Outbox, make_tools

FOLDER = Path(__file__).parent

_ADDRESS = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\-]+@[A-Za-z0-9.\-]+\Z"  # RFC 5322 3.4.1: dot-atoms
_SMTP_PORTS = {"smtp": 587, "smtps": 465}  # RFC 6409, RFC 8314


class RetailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings under ``[packs.retail]``.

    ``recovery``: how a change in doubt is settled, by calling again with its key or by asking the shop about it.
    Letters go to ``outbox_dir`` as files, or with ``smtp_url`` (``smtp://host`` or ``smtps://host``) to that server.
    """

    shop_url: str = "http://127.0.0.1:8099"
    recovery: Literal["idempotent", "verifiable"] = "idempotent"
    outbox_dir: str = "./.workmesh/outbox"
    sender: Annotated[str, msgspec.Meta(max_length=254, pattern=_ADDRESS)] = "orders@shop.example"
    smtp_url: str = ""
    smtp_user: str = ""
    smtp_password: str = ""

    def __post_init__(self) -> None:
        _check_url("shop_url", self.shop_url, ("http", "https"))
        if self.smtp_url:
            _check_url("smtp_url", self.smtp_url, tuple(_SMTP_PORTS))

    def smtp_server(self) -> SmtpServer | None:
        """The server that letters go to, if not to a folder."""
        if not self.smtp_url:
            return None
        url = urlsplit(self.smtp_url)
        return SmtpServer(
            host=url.hostname or "",
            port=url.port or _SMTP_PORTS[url.scheme],
            secure=url.scheme == "smtps",
            user=self.smtp_user,
            password=self.smtp_password,
        )


def tools(options: RetailOptions) -> tuple[Tool, ...]:
    """The pack's tools, as the options have them."""
    return make_tools(Recovery(options.recovery), by_smtp=bool(options.smtp_url))


@asynccontextmanager
async def connect(options: RetailOptions) -> AsyncIterator[Mapping[str, Any]]:
    """What the tools and the information point talk to; nothing is sent or written yet."""
    async with Shop.open(options.shop_url) as shop:
        yield {SHOP: shop, OUTBOX: _outbox(options)}


def _outbox(options: RetailOptions) -> Outbox:
    server = options.smtp_server()
    if server is not None:
        return SmtpOutbox(server, options.sender)
    return FolderOutbox(Path(options.outbox_dir).expanduser(), options.sender)


def _check_url(name: str, text: str, schemes: tuple[str, ...]) -> None:
    url = urlsplit(text)
    if "@" in url.netloc:
        raise ValueError(f"{name}: no user or password in a URL: settings are shown, and only secret keys are hidden")
    if url.scheme not in schemes or not url.hostname or url.query or url.fragment:
        raise ValueError(f"{name}: expected {schemes[0]}://host, not {text!r}")
    try:
        _ = url.port
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


pack = Pack(
    name="retail",
    version="0.1.0",
    options=RetailOptions,
    events=EVENTS,
    tools=tools,
    connect=connect,
    playbooks=FOLDER / "playbooks",
    policies=FOLDER / "policies",
    prompts=FOLDER / "prompts",
    sources=FOLDER / "sources",
    facts=read_facts,
    applied={SHOP: shop_log},
)
