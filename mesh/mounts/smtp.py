"""Mail as a tool: letters handed to an SMTP server, each with the ``Message-ID`` of its key.

The rule: of an SMTP server nobody can ask later what it took; a letter without an answer is in doubt.
"""

import asyncio
import re
import smtplib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mesh.clock import now
from mesh.errors import NotSentError, SettingsError, ToolRefusedError, UncertainError
from mesh.mounts.declaration import Declaration, Name, Part, check_names, read_file
from mesh.mounts.secret import read_secret
from mesh.tools import Recovery, Tool, ToolCall

SMTP_TIMEOUT_S = 8.0  # a wait for one answer; RFC 5321 4.5.3.2 grants minutes, which a step does not have

_KEY = re.compile(r"[A-Za-z0-9_~\-][A-Za-z0-9_~.\-]{0,199}")  # a file name, and an RFC 5322 dot-atom in Message-ID
_ADDRESS = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\-]+@[A-Za-z0-9.\-]+\Z"  # RFC 5322 3.4.1: dot-atoms


class Letter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be sent, and to whom."""

    to: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]  # RFC 5321 4.5.3.1.3: a path of 256 with <>
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\r\n]*\Z")]
    body: Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A letter that was handed over; ``replayed`` says that it had been there before."""

    message_id: str
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where letters are handed over: over TLS from the start (``secure``), or by STARTTLS.

    Without a ``user`` nobody logs in. ``ca_file`` holds the authorities that its certificate may come from.
    """

    host: str
    port: int
    secure: bool
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    require_tls: bool = False
    ca_file: str | None = None


class SmtpOutbox:
    """Hands letters to an SMTP server. Without ``require_tls`` STARTTLS is used where it is offered."""

    def __init__(self, server: SmtpServer, sender: str) -> None:
        self._server = server
        self._sender = sender

    async def send(self, letter: Letter, key: str) -> Notice:
        """Send the letter; a server that knows ``Message-ID`` drops a second one."""
        message = compose(letter, key, self._sender)
        await asyncio.to_thread(self._deliver, message)
        return Notice(message_id=message_id(key, self._sender), replayed=False)

    def _deliver(self, letter: EmailMessage) -> None:
        with self._session() as session:
            try:
                session.send_message(letter)
            except smtplib.SMTPRecipientsRefused as error:
                code, words = next(iter(error.recipients.values()))
                raise _refused(code, words) from error
            except smtplib.SMTPNotSupportedError as error:
                raise ToolRefusedError(
                    "smtp_unsupported", f"the mail server cannot take this letter: {error}"
                ) from error
            except smtplib.SMTPResponseException as error:
                raise _refused(error.smtp_code, error.smtp_error) from error
            except (smtplib.SMTPException, OSError) as error:
                raise UncertainError(f"the mail server did not confirm {letter['Message-ID']}: {error}") from error

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        """A connection, ready to send; nothing was sent when it raises ``NotSentError``."""
        session: smtplib.SMTP | None = None
        try:
            session = self._connect()
        except (smtplib.SMTPException, OSError) as error:
            raise NotSentError(f"the mail server {self._server.host} cannot be used: {error}") from error
        try:
            yield session
            with suppress(smtplib.SMTPException, OSError):
                session.quit()
        finally:
            session.close()

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        password = read_secret(server.password_file) if server.password_file else server.password
        context = ssl.create_default_context(cafile=server.ca_file)
        if server.secure:
            session: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SMTP_TIMEOUT_S, context=context)
        else:
            session = smtplib.SMTP(server.host, server.port, timeout=SMTP_TIMEOUT_S)
        try:
            session.ehlo_or_helo_if_needed()
            secure = server.secure or session.has_extn("starttls")
            if secure and not server.secure:
                session.starttls(context=context)
            if not secure and (server.user or server.require_tls):
                raise smtplib.SMTPNotSupportedError("it offers no TLS, and a password never goes in the clear")
            if server.user:
                session.login(server.user, password)
        except BaseException:
            session.close()
            raise
        return session


def compose(letter: Letter, key: str, sender: str) -> EmailMessage:
    """The message; raises ``ToolRefusedError`` when the recipient is no single address, or the key no plain name."""
    check_key(key)
    message = EmailMessage()
    try:
        if not letter.to.isascii():
            raise ValueError("only ASCII is carried by every mail server")
        message["To"] = Address(addr_spec=letter.to)
        message["From"] = sender
        message["Subject"] = letter.subject
    except (ValueError, IndexError, MessageError) as error:  # IndexError: the parser's answer to some broken input
        raise ToolRefusedError("invalid_address", f"a letter to {letter.to!r} cannot be addressed: {error}") from error
    message["Date"] = format_datetime(now())
    message["Message-ID"] = message_id(key, sender)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers, please
    message.set_content(letter.body)
    return message


def message_id(key: str, sender: str) -> str:
    """The ``Message-ID`` of the letter under this key."""
    return f"<{key}@{sender.rpartition('@')[2]}>"


def check_key(key: str) -> None:
    """Raises ``ToolRefusedError`` for a key that can be no file name and no part of a ``Message-ID``."""
    if not _KEY.fullmatch(key):
        raise ToolRefusedError("invalid_key", f"{key!r} is no key for a letter: letters, digits and _ ~ . - only")


def _refused(code: int, words: bytes | str) -> NotSentError | ToolRefusedError:
    """A server's no: 4yz means try again later (RFC 5321 4.2.1), all others are for good."""
    said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    message = f"the mail server answered {code} {said}"
    return NotSentError(message) if 400 <= code < 500 else ToolRefusedError(f"smtp_{code}", message)


class SmtpFile(Part, frozen=True, kw_only=True):
    """A mount's file: one server, and one or more tools that send from it."""

    kind: Literal["smtp"]
    target: Name
    host: Annotated[str, msgspec.Meta(min_length=1)]
    sender: Annotated[str, msgspec.Meta(max_length=254, pattern=_ADDRESS)]
    tools: tuple[Declaration, ...]
    port: str = ""
    secure: bool = False
    require_tls: bool = True
    user: str = ""
    password_file: str = ""
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if self.port and not (self.port.isdigit() and 0 < int(self.port) < 65536):
            raise ValueError(f"the port is a number below 65536, not {self.port!r}")


@dataclass(frozen=True, slots=True)
class SmtpMount:
    """A mail server. Nothing is connected before a tool is called."""

    path: Path
    file: SmtpFile

    @classmethod
    def read(cls, path: Path, values: Mapping[str, str]) -> "SmtpMount":
        """The mount in this file; raises ``SettingsError``."""
        file = read_file(path, SmtpFile, values)
        check_names(path, file.tools)
        for each in file.tools:
            if each.recovery is not Recovery.MANUAL or each.read_only:
                raise SettingsError(f"the mount {path}: {each.tool} is manual: nobody can ask what a mail server took")
        return cls(path, file)

    @property
    def target(self) -> str:
        """What its tools call."""
        return self.file.target

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """What the file declares."""
        return self.file.tools

    def tools(self) -> tuple[Tool, ...]:
        """The tools: each sends a letter."""
        return tuple(each.make(self.target, args=Letter, run=_send) for each in self.file.tools)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SmtpOutbox]:
        """The outbox; nothing is connected yet."""
        file = self.file
        server = SmtpServer(
            host=file.host,
            port=int(file.port or (465 if file.secure else 587)),  # RFC 8314, RFC 6409
            secure=file.secure,
            user=file.user,
            password_file=file.password_file,
            require_tls=file.require_tls,
            ca_file=file.ca_file,
        )
        yield SmtpOutbox(server, file.sender)


async def _send(args: Letter, call: ToolCall) -> Notice:
    outbox: SmtpOutbox = call.system
    return await outbox.send(args, call.key)
