"""From the bytes of a message to a ``Mail``: pure, and every guess is noted. It raises ``UnreadableError`` only."""

import hashlib

from agents.intake.mail.addresses import read_addresses
from agents.intake.mail.auth import read_auth
from agents.intake.mail.headers import Header, read_date, read_header, read_ids
from agents.intake.mail.mail import Address, Mail, MailLimits, Parsed
from agents.intake.mail.notes import Notes
from agents.intake.mail.parts import Part, read_parts
from agents.intake.mail.reply import cut_reply
from agents.intake.mail.reports import kind_of
from agents.intake.mail.texts import Contents

_ONCE = ("from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject", "date")
_HEAD = 256 * 1024


def read_mail(data: bytes, limits: MailLimits | None = None) -> Parsed:
    """Read one message (RFC 5322 and MIME); ``UnreadableError`` for what is too large or no message."""
    limits = limits or MailLimits()
    notes = Notes()
    root = read_parts(data, limits, notes)
    contents = Contents(limits, notes)
    contents.read(root)
    return Parsed(_mail(root, contents, data, limits, notes), contents.kept)


def mail_key(data: bytes) -> str:
    """What names a message at its source: its Message-ID, or the digest of its bytes if it has none."""
    header, _ = read_header(data[:_HEAD], "", Notes())
    ids = read_ids(header.texts("message-id")[:1])
    return ids[0] if ids else hashlib.sha256(data).hexdigest()


def _mail(root: Part, contents: Contents, data: bytes, limits: MailLimits, notes: Notes) -> Mail:
    header = root.header
    for name in _ONCE:
        if len(header.raw(name)) > 1:
            notes.add(name, "more than one: the first counts")
    froms = read_addresses(header, "from", notes)
    senders = read_addresses(header, "sender", notes)
    from_ = froms[0] if froms else (senders[0] if senders else Address("", ""))
    if not froms:
        notes.add("from", "missing")
    reply = cut_reply("\n\n".join(contents.plain))
    if contents.plain and not reply.text:
        notes.add("body", "nothing new: all is quoted or a signature")
    own = mail_key(data)
    if not header.raw("message-id"):
        notes.add("message-id", "missing: the digest names the message")
    answered = read_ids(header.texts("in-reply-to")[:1])
    references = read_ids(header.texts("references"))
    kind, bounce = kind_of(root, from_.address, notes)
    date = read_date(header.text("date"))
    if date is None:
        notes.add("date", "not readable" if header.raw("date") else "missing")
    return Mail(
        message_id=own,
        thread=next(iter((*references, *answered, own))),
        in_reply_to=answered[0] if answered else "",
        references=references,
        date=date,
        from_=from_,
        froms=froms,
        sender=senders[0] if senders else None,
        to=read_addresses(header, "to", notes),
        cc=read_addresses(header, "cc", notes),
        reply_to=read_addresses(header, "reply-to", notes),
        subject=_subject(header),
        text=reply.text,
        quoted=reply.quoted,
        signature=reply.signature,
        html_only=contents.html_only,
        kind=kind,
        bounce=bounce,
        auth=read_auth(header, froms, limits.trusted_authserv, notes),
        attachments=tuple(contents.attachments),
        notes=notes.all(),
    )


def _subject(header: Header) -> str:
    return header.text("subject", decode=True)[:2000]
