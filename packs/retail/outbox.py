"""Where letters to customers go: a folder of e-mail files (RFC 5322), or an SMTP server.

The rule: a file appears whole, under its key, and once; of an SMTP server nobody can ask later what it took.
"""

import asyncio
import os
import re
import smtplib
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

import msgspec

from mesh.clock import now
from mesh.errors import NotSentError, ToolRefusedError, UncertainError
from packs.retail.arguments import NotifyArgs

SMTP_TIMEOUT_S = 8.0  # a wait for one answer; RFC 5321 4.5.3.2 grants minutes, which a step does not have

_KEY = re.compile(r"[A-Za-z0-9_~\-][A-Za-z0-9_~.\-]{0,199}")  # a file name, and an RFC 5322 dot-atom in Message-ID


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A letter that was handed over; ``replayed`` says that it had been there before."""

    message_id: str
    replayed: bool


class FolderOutbox:
    """Writes each letter as ``<key>.eml``, for another program to send."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, args: NotifyArgs, key: str) -> Notice:
        """Write the letter unless its key was used before: then the first one stands."""
        data = compose(args, key, self._sender).as_bytes(policy=SMTP)
        fresh = await asyncio.to_thread(self._write, f"{key}.eml", data)
        return Notice(message_id=message_id(key, self._sender), replayed=not fresh)

    async def find(self, key: str) -> Notice | None:
        """The letter under this key, or ``None``."""
        _check_key(key)
        found = await asyncio.to_thread((self._folder / f"{key}.eml").is_file)
        return Notice(message_id=message_id(key, self._sender), replayed=True) if found else None

    def _write(self, name: str, data: bytes) -> bool:
        """Put a whole file on disk under a name that is free; a crash before leaves at most a hidden ``.tmp`` file."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", suffix=".tmp") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                fresh = _link(file.name, self._folder / name)
        except OSError as error:
            raise NotSentError(f"{self._folder / name} cannot be written: {error}") from error
        try:
            _fsync_folder(self._folder)  # also for a file found there: who linked it may have died before this
        except OSError as error:
            raise UncertainError(f"{self._folder / name} may not outlast a power cut: {error}") from error
        return fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where letters are handed over; without a ``user`` nobody logs in."""

    host: str
    port: int
    secure: bool
    user: str = ""
    password: str = field(default="", repr=False)


class SmtpOutbox:
    """Hands letters to an SMTP server, over TLS from the start (``secure``) or by STARTTLS where it is offered."""

    def __init__(self, server: SmtpServer, sender: str) -> None:
        self._server = server
        self._sender = sender

    async def send(self, args: NotifyArgs, key: str) -> Notice:
        """Send the letter; a server that knows ``Message-ID`` drops a second one."""
        letter = compose(args, key, self._sender)
        await asyncio.to_thread(self._deliver, letter)
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
        server, context = self._server, ssl.create_default_context()
        if server.secure:
            session: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SMTP_TIMEOUT_S, context=context)
        else:
            session = smtplib.SMTP(server.host, server.port, timeout=SMTP_TIMEOUT_S)
        try:
            session.ehlo_or_helo_if_needed()
            secure = server.secure or session.has_extn("starttls")
            if secure and not server.secure:
                session.starttls(context=context)
            if server.user:
                if not secure:
                    raise smtplib.SMTPNotSupportedError("it offers no TLS, and a password never goes in the clear")
                session.login(server.user, server.password)
        except BaseException:
            session.close()
            raise
        return session


def compose(args: NotifyArgs, key: str, sender: str) -> EmailMessage:
    """The letter; raises ``ToolRefusedError`` when the recipient is no single address, or the key no plain name."""
    _check_key(key)
    letter = EmailMessage()
    try:
        if not args.email.isascii():
            raise ValueError("only ASCII is carried by every mail server")
        letter["To"] = Address(addr_spec=args.email)
        letter["From"] = sender
        letter["Subject"] = args.subject
    except (ValueError, IndexError, MessageError) as error:  # IndexError: the parser's answer to some broken input
        raise ToolRefusedError("invalid_address", f"a letter to {args.email!r} cannot be addressed: {error}") from error
    letter["Date"] = format_datetime(now())
    letter["Message-ID"] = message_id(key, sender)
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers, please
    letter.set_content(args.body)
    return letter


def message_id(key: str, sender: str) -> str:
    """The ``Message-ID`` of the letter under this key."""
    return f"<{key}@{sender.rpartition('@')[2]}>"


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ToolRefusedError("invalid_key", f"{key!r} is no key for a letter: letters, digits and _ ~ . - only")


def _refused(code: int, words: bytes | str) -> NotSentError | ToolRefusedError:
    """A server's no: 4yz means try again later (RFC 5321 4.2.1), all others are for good."""
    said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    message = f"the mail server answered {code} {said}"
    return NotSentError(message) if 400 <= code < 500 else ToolRefusedError(f"smtp_{code}", message)


def _link(source: str, target: Path) -> bool:
    """Give a file a second name; false when the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
