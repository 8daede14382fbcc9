"""The reader of each kind of mapping, as the settings of a source have it."""

from collections.abc import Callable, Mapping

from agents.intake.documents.rows import read_rows
from agents.intake.documents.ubl import read_items
from agents.intake.mail.reader import mail_reader
from agents.intake.mapping import Reads
from agents.intake.readers import Reader, read_json
from mesh.sources import SourceSettings

READERS: Mapping[Reads, Callable[[SourceSettings], Reader]] = {
    "json": lambda setting: read_json,
    "mail": mail_reader,
    "rows": lambda setting: read_rows,
    "ubl": lambda setting: read_items,
}
