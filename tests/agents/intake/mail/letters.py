"""Messages for tests, written as they come over the wire."""

from agents.intake.mail.mail import Mail, MailLimits
from agents.intake.mail.message import read_mail

HEAD = "From: Ann <ann@shop.example>\nTo: help@firm.example\nSubject: Hello\nMessage-ID: <1@shop.example>\n"


def letter(body: str | bytes, *fields: str, head: str = HEAD) -> bytes:
    """A message with these header fields besides the usual ones."""
    text = head + "".join(f"{each}\n" for each in fields) + "\n"
    return text.encode() + (body if isinstance(body, bytes) else body.encode())


def read(body: str | bytes, *fields: str, head: str = HEAD, trusted: tuple[str, ...] = ()) -> Mail:
    """That message, read."""
    return read_mail(letter(body, *fields, head=head), MailLimits(trusted_authserv=trusted)).mail


def noted(mail: Mail) -> str:
    """All notes as one text."""
    return "; ".join(f"{note.place}: {note.what}" for note in mail.notes)
