"""A message as mapping files see it: plain values only, bytes of attachments apart."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

Kind = Literal["message", "bounce", "auto_reply", "list"]


class MailLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large a message may be; what is larger is refused, or left out with a note.

    ``trusted_authserv`` names the servers whose Authentication-Results are believed (RFC 8601): those that your own
    mail server writes. It must remove such headers from what comes in, as section 5 there demands.
    """

    message_bytes: int = 25 * 1024 * 1024  # what most providers send at most
    header_bytes: int = 256 * 1024
    parts: int = 200
    depth: int = 20
    attachment_bytes: int = 20 * 1024 * 1024
    text_chars: int = 200_000
    trusted_authserv: tuple[str, ...] = ()


class Address(msgspec.Struct, frozen=True):
    """A mailbox: the decoded display name, and the address as written (without a route)."""

    name: str
    address: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that came with the message; ``digest`` (SHA-256, hex) names its bytes if they were ``kept``."""

    name: str
    type: str
    found_type: str
    size: int
    digest: str
    kept: bool
    part: str


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """To whom a message could not be brought, in the fields of RFC 3464."""

    address: str
    action: str = ""
    status: str = ""
    diagnostic: str = ""


class Bounce(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery report says; ``status`` is the first recipient's, ``original_id`` the message reported on."""

    status: str
    recipients: tuple[Recipient, ...]
    original_id: str


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    """What a trusted server found (``none`` where it says nothing): is the domain of From who sent this?"""

    spf: str = "none"
    dkim: str = "none"
    dmarc: str = "none"
    authenticated: bool = False


class Note(msgspec.Struct, frozen=True):
    """A guess that was made, or a thing left out: where, and what."""

    place: str
    what: str


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Ids stand without angle brackets; ``thread`` is the id of the message that began it all."""

    message_id: str
    thread: str
    in_reply_to: str
    references: tuple[str, ...]
    date: datetime | None
    from_: Address
    froms: tuple[Address, ...]
    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    subject: str
    text: str
    quoted: str
    signature: str
    html_only: bool
    kind: Kind
    bounce: Bounce | None
    auth: Auth
    attachments: tuple[Attachment, ...]
    notes: tuple[Note, ...]


class Parsed(msgspec.Struct, frozen=True):
    """A message, and the bytes of its attachments by digest."""

    mail: Mail
    parts: Mapping[str, bytes]
