"""What every record is built on: its header, its subject's last token, and the values that several kinds share.

The rule: nothing here knows a kind of record; ``mesh.records`` has them all.
"""

from datetime import datetime

import msgspec

SCHEMA_VERSION = 1
WHOLE_TASK = "-"

Json = msgspec.Raw
NULL = msgspec.Raw(b"null")
EMPTY_OBJECT = msgspec.Raw(b"{}")


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every value inside a record."""


class Causation(Struct, frozen=True, kw_only=True):
    """The record or event that led to this one: its stream, subject and sequence there."""

    stream: str
    subject: str
    seq: int


class Header(Struct, frozen=True, kw_only=True):
    """What every record carries. ``at`` is aware UTC; ``writer`` is ``role/instance``."""

    task_id: str
    domain: str
    causation: Causation
    writer: str
    at: datetime
    traceparent: str = ""
    v: int = SCHEMA_VERSION


class Record(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all records; ``step`` is the last token of the subject."""

    header: Header

    @property
    def kind(self) -> str:
        """The record's kind, as it stands in the subject."""
        return str(self.__struct_config__.tag)

    @property
    def token(self) -> str:
        """The last token of the record's subject: a step, or ``-`` for the whole task."""
        return WHOLE_TASK


class Call(Struct, frozen=True, kw_only=True):
    """A tool and its arguments, exactly as they will be executed."""

    tool: str
    args: Json


class Citation(Struct, frozen=True, kw_only=True):
    """A fact that the plan rests on, as it was recalled: all that a replay needs. Only old records have a ``key``."""

    fact_id: str
    version: int
    scope: str = ""
    key: str = ""
    text: str = ""
    source: str = ""
    score: float = 0.0
    subject: str = ""
    predicate: str = ""
    value: Json = NULL
    status: str = ""
    authority: int = 1
    confidence: float = 1.0
    valid_from: datetime | None = None
    valid_to: datetime | None = None


class Found(Struct, frozen=True, kw_only=True):
    """What was seen in a text field (``pointer``) from character ``start`` to ``end``; it came from outside.

    ``name`` is the kind of an entity, ``intent``, ``urgency`` or ``language``; ``confidence`` is 0 to 1.
    """

    name: str
    value: str
    pointer: str
    start: int
    end: int
    confidence: float


class Reading(Struct, frozen=True, kw_only=True):
    """What a read-only tool answered while planning; kept so that a replay needs no credentials.

    ``taint`` holds JSON pointers into ``answer`` to text from outside, as the tool declares them ("" is all of it).
    """

    name: str
    call: Call
    answer: Json
    taint: tuple[str, ...] = ()
