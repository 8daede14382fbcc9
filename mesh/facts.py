"""Facts as memory keeps and answers them. The full model (time, contest, supersession) stands on these structs.

The rule: every fact says where it came from.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from mesh.canonical import token
from mesh.records import Causation


class FactStatus(StrEnum):
    """Whether a fact is in force."""

    CURRENT = "current"
    FORGOTTEN = "forgotten"


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Who says so, and which record it rests on."""

    writer: str
    source: str
    causation: Causation | None = None
    person: str = ""


class FactEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a fact, as it stands in ``MEMORY``: subject ``fact.<scope token>.<fact id>``.

    ``as_of`` orders versions that are counted from a stream: one with a smaller ``as_of`` than the current is stale.
    """

    scope: str
    key: str
    text: str
    status: FactStatus
    version: int
    provenance: Provenance
    at: datetime
    value: msgspec.Raw = msgspec.Raw(b"null")
    as_of: int = 0

    @property
    def id(self) -> str:
        """A function of scope and key."""
        return fact_id(self.scope, self.key)


class RecalledFact(msgspec.Struct, frozen=True, kw_only=True):
    """A fact as memory answers it, with the score of the recall (0 for an exact one)."""

    id: str
    scope: str
    key: str
    text: str
    version: int
    source: str
    score: float = 0.0


class RememberRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remember ``text`` (and ``value``) under ``scope`` and ``key``; the answer is the ``FactEvent`` that stands."""

    scope: str
    key: str
    text: str
    provenance: Provenance
    value: msgspec.Raw = msgspec.Raw(b"null")
    as_of: int = 0


class RecallRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of ``scope`` (a prefix ends in ``/``); ``key`` for an exact one, ``query`` for words (BM25)."""

    scope: str
    key: str = ""
    query: str = ""
    limit: int = 10


class ForgetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forget a fact: it is never recalled again; that it was forgotten stays on record."""

    scope: str
    key: str
    provenance: Provenance


def fact_id(scope: str, key: str) -> str:
    """The id of the fact under this scope and key."""
    return token("fact", scope, key, bits=100)


def scope_token(scope: str) -> str:
    """The subject token of a scope."""
    return token("scope", scope, bits=80)
