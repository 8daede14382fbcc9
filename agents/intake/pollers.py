"""What polls each kind of source."""

from pathlib import Path
from typing import assert_never

from agents.intake.arrival import Marks, Take
from agents.intake.documents.folder import watch_folder
from agents.intake.documents.table import poll_table
from agents.intake.mail.imap import ImapAccount, poll_imap
from agents.intake.mail.maildir import watch_maildir
from mesh.sources import Folder, Imap, Maildir, Table

Polled = Folder | Imap | Maildir | Table


async def poll(name: str, setting: Polled, take: Take, marks: Marks) -> None:
    """Poll one source until cancelled; raises ``SettingsError`` for one that can never be read."""
    match setting:
        case Folder():
            await watch_folder(name, setting, take)
        case Table():
            await poll_table(name, setting, take, marks)
        case Maildir():
            await watch_maildir(Path(setting.folder), take, poll_s=setting.poll_s, source=name)
        case Imap():
            await poll_imap(_account(name, setting), take, marks)
        case _:
            assert_never(setting)


def _account(name: str, setting: Imap) -> ImapAccount:
    return ImapAccount(
        name=name,
        host=setting.host,
        user=setting.user,
        port=setting.port,
        password_file=setting.password,
        folder=setting.mailbox,
        tls=setting.tls,
        ca_file=setting.ca,
        poll_s=setting.poll_s,
    )
