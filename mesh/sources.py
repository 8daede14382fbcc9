"""The settings of what comes in but by the bus: webhooks, mail boxes, folders, tables (``[intake.sources.<name>]``).

The rule: a secret is the path of a file, never a value.
"""

from typing import Annotated, Literal

import msgspec

Poll = Annotated[float, msgspec.Meta(ge=0.05, le=86_400)]
File = Annotated[str, msgspec.Meta(min_length=1)]
Mapping = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_\-]*/[a-z][a-z0-9_\-]*\Z|\.yaml\Z")]


class _Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """``mapping`` is ``<pack>/<name>`` of a file that the pack brings, or the path of a YAML file."""

    mapping: Mapping


class Webhook(_Source, frozen=True, tag="webhook"):
    """``POST /webhooks/<name>``. ``secrets`` is a file with one signing secret a line; all of them count.

    A signature that is older than ``window_s`` counts for nothing, where its scheme tells when it was made.
    """

    secrets: str = ""
    window_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0


class Maildir(_Source, frozen=True, tag="maildir"):
    """A maildir. What servers named in ``authserv_ids`` say in ``Authentication-Results`` is believed."""

    folder: File
    poll_s: Poll = 2.0
    authserv_ids: tuple[str, ...] = ()


class Imap(_Source, frozen=True, tag="imap"):
    """A mail box by IMAP. ``tls`` ``none`` is for servers on this host alone. ``password`` is the path of a file."""

    host: File
    user: File
    password: File
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 993
    mailbox: str = "INBOX"
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    ca: str = ""
    poll_s: Poll = 30.0
    authserv_ids: tuple[str, ...] = ()


class Folder(_Source, frozen=True, tag="folder"):
    """A folder that files are put into; those whose names match ``pattern`` are taken, and moved to ``done_to``.

    ``done_to`` "" is a folder ``taken`` in it. A file that is still written to is left until it has not changed for
    ``settle_s``.
    """

    folder: File
    pattern: str = "*"
    done_to: str = ""
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    poll_s: Poll = 2.0


class Table(_Source, frozen=True, tag="table"):
    """A table that rows are added to, such as an outbox. ``database`` is the path of a SQLite file, or of a file that
    holds the address of a PostgreSQL database, as libpq has it.

    ``mark`` is the column that grows from row to row. Rows become visible out of order where transactions overlap: the
    last ``overlap`` of them are read again each time.
    """

    database: File
    table: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,127}\Z")]
    mark: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}\Z")] = "id"
    overlap: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 1000
    poll_s: Poll = 2.0


SourceSettings = Webhook | Maildir | Imap | Folder | Table
