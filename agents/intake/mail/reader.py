"""Messages as items of intake: ``mail`` for the expressions of a mapping, and attachments to keep."""

from collections.abc import Iterator

import msgspec

from agents.intake.arrival import Arrival
from agents.intake.mail.mail import MailLimits
from agents.intake.mail.message import read_mail
from agents.intake.readers import Item, Reader
from mesh.sources import Imap, Maildir, SourceSettings


def mail_reader(setting: SourceSettings) -> Reader:
    """The reader for a source, which believes the servers that its settings name."""
    trusted = setting.authserv_ids if isinstance(setting, Maildir | Imap) else ()
    limits = MailLimits(trusted_authserv=trusted)

    def read(arrival: Arrival) -> Iterator[Item]:
        parsed = read_mail(arrival.data, limits)
        variables = {"mail": msgspec.to_builtins(parsed.mail)}
        yield Item(key=arrival.key, data=arrival.data, variables=variables, parts=tuple(parsed.parts.values()))

    return read
