"""An IMAP mailbox as a source (RFC 9051): each message is taken in order of its UID, then the mark moves behind it.

The mailbox is opened read-only: nothing in it changes, and a person's unread mail stays unread. A crash between the two
repeats at most the one message, under the same key.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import structlog
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from agents.intake.arrival import Arrival, Marks, Take
from agents.intake.mail.mail import MailLimits
from agents.intake.mail.message import mail_key
from agents.intake.mail.taking import until_done
from mesh.clock import now
from mesh.errors import RetryableError, SettingsError

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LONGEST_WAIT_S = 60.0
_IN_ONE_SEARCH = 50_000  # imaplib refuses a line over a million characters; a UID takes up to 11
_TRIES = 3


class ImapAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mailbox and how to reach it. The password is in a file or an environment variable, never in the settings."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    host: str
    user: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    password_file: str = ""
    password_env: str = ""
    folder: str = "INBOX"
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    ca_file: str = ""
    poll_s: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    most_bytes: Annotated[int, msgspec.Meta(ge=1024)] = MailLimits().message_bytes

    def password(self) -> str:
        """Read anew for each connection, so that a changed one is used; ``SettingsError`` when there is none."""
        try:
            found = Path(self.password_file).read_text("utf-8") if self.password_file else os.environ[self.password_env]
        except (OSError, KeyError, UnicodeDecodeError) as error:
            where = self.password_file or self.password_env or "password_file or password_env"
            raise SettingsError(f"mailbox {self.name}: no password in {where}: {type(error).__name__}") from error
        return found.rstrip("\r\n")


class Mark(msgspec.Struct, frozen=True):
    """The last message taken; UIDs mean something only under their UIDVALIDITY."""

    uidvalidity: int
    uid: int


class _Fetched(msgspec.Struct, frozen=True):
    data: bytes
    size: int
    received_at: datetime


class _Session:
    """One connection. Its calls run one after another in a thread of their own."""

    def __init__(self, account: ImapAccount) -> None:
        self._account = account
        self._thread = ThreadPoolExecutor(1, f"imap-{account.name}")
        self._client: Any = None

    async def __aenter__(self) -> "_Session":
        try:
            await self._run(self._connect)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            try:
                self._client.shutdown()  # closes the socket, so a call that still waits in the thread ends
            except (OSError, IMAPClientError):
                log.debug("imap_closed_already", mailbox=self._account.name)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _connect(self) -> None:
        account = self._account
        context = ssl.create_default_context(cafile=account.ca_file or None)
        password = account.password()
        client = IMAPClient(
            account.host,
            account.port,
            ssl=account.tls == "implicit",
            ssl_context=context if account.tls == "implicit" else None,
            timeout=account.timeout_s,
        )
        self._client = client
        if account.tls == "starttls":
            client.starttls(context)
        client.normalise_times = False  # times with their zone
        client.login(account.user, password)

    async def select(self) -> tuple[int, int, int]:
        """UIDVALIDITY, how many messages there are, and the next UID (0 when the server does not say)."""
        found = await self._run(lambda: self._client.select_folder(self._account.folder, readonly=True))
        if b"UIDVALIDITY" not in found:
            raise IMAPClientError("the server gives no UIDVALIDITY")
        return int(found[b"UIDVALIDITY"]), int(found.get(b"EXISTS", 0)), int(found.get(b"UIDNEXT", 0))

    async def uids(self, first: int, last: int | str) -> list[int]:
        found = await self._run(lambda: self._client.search(["UID", f"{first}:{last}"]))
        return sorted(uid for uid in found if uid >= first)  # "n:*" names the last message even if it is below n

    async def fetch(self, uid: int) -> _Fetched | None:
        most = self._account.most_bytes + 1
        asked = ["RFC822.SIZE", "INTERNALDATE", f"BODY.PEEK[]<0.{most}>"]
        found = (await self._run(lambda: self._client.fetch([uid], asked))).get(uid, {})
        data = next((value for key, value in found.items() if key.startswith(b"BODY[")), None)
        if data is None:
            return None
        when = found.get(b"INTERNALDATE")
        received = when.astimezone(UTC) if isinstance(when, datetime) else now()
        return _Fetched(data[:most], int(found.get(b"RFC822.SIZE", len(data))), received)


async def poll_imap(account: ImapAccount, take: Take, marks: Marks) -> None:
    """Take new messages every ``poll_s`` for ever, over lost connections; with 0 one pass, that raises what went wrong.

    Under a new UIDVALIDITY all messages are taken again: their source and key are the same, so they are known.
    """
    poller = _Poller(account, take, marks)
    failures = 0
    while True:
        try:
            await poller.once()
            failures = 0
        except (OSError, IMAPClientError, SettingsError) as error:
            if not account.poll_s:
                if isinstance(error, SettingsError):
                    raise
                raise RetryableError(f"mailbox {account.name}: {type(error).__name__}: {error}") from error
            failures += 1
            log.warning(
                "imap_failed", mailbox=account.name, failures=failures, error=f"{type(error).__name__}: {error}"
            )
        if not account.poll_s:
            return
        await asyncio.sleep(min(account.poll_s * 2 ** min(failures, 10), max(account.poll_s, _LONGEST_WAIT_S)))


class _Poller:
    def __init__(self, account: ImapAccount, take: Take, marks: Marks) -> None:
        self._account = account
        self._take = take
        self._marks = marks
        self._name = f"imap.{account.name}"
        self._tries: dict[int, int] = {}

    async def once(self) -> None:
        value: bytes | None = None

        async def read() -> None:
            nonlocal value
            value = await self._marks.get(self._name)

        await until_done(read, self._name)
        mark = msgspec.json.decode(value, type=Mark) if value else None
        async with _Session(self._account) as session:
            uidvalidity, messages, following = await session.select()
            if mark is not None and mark.uidvalidity != uidvalidity:
                log.warning("imap_uidvalidity_changed", mailbox=self._account.name, effect="all messages come again")
                self._tries.clear()
                mark = None
            first = mark.uid + 1 if mark else 1
            if messages <= _IN_ONE_SEARCH or not following:
                await self._take_all(session, uidvalidity, await session.uids(first, "*"))
                return
            for start in range(first, following, _IN_ONE_SEARCH):
                await self._take_all(session, uidvalidity, await session.uids(start, start + _IN_ONE_SEARCH - 1))

    async def _take_all(self, session: _Session, uidvalidity: int, uids: list[int]) -> None:
        for uid in uids:
            arrival = await self._arrival(session, uidvalidity, uid)
            if arrival is not None:
                await self._take_one(arrival)
            await self._put(Mark(uidvalidity, uid))

    async def _put(self, mark: Mark) -> None:
        await until_done(lambda: self._marks.put(self._name, msgspec.json.encode(mark)), self._name)

    async def _take_one(self, arrival: Arrival) -> None:
        await until_done(lambda: self._take(arrival), arrival.key)

    async def _arrival(self, session: _Session, uidvalidity: int, uid: int) -> Arrival | None:
        """None for a message that is gone. One that the server lists and does not give comes empty, to be seen."""
        headers = {"folder": self._account.folder, "uidvalidity": str(uidvalidity), "uid": str(uid)}
        found = await session.fetch(uid)
        if found is None:
            if not await session.uids(uid, uid):
                return None
            self._tries[uid] = self._tries.get(uid, 0) + 1
            if self._tries[uid] < _TRIES:
                raise IMAPClientError(f"message {uid} is listed and not given")
            headers["note"] = "the server lists this message and does not give it"
            found = _Fetched(b"", 0, now())
        self._tries.pop(uid, None)
        headers["size"] = str(found.size)
        if len(found.data) > self._account.most_bytes:
            headers["cut"] = "true"
        key = mail_key(found.data) if found.data else f"{uidvalidity}-{uid}"
        return Arrival(
            source=self._account.name, key=key, data=found.data, headers=headers, received_at=found.received_at
        )
