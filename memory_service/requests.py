"""What operators ask of memory beyond remember, recall and forget, and what it answers."""

import msgspec

from mesh.facts import FactEvent


class FactsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of the current facts of ``scope`` (a prefix ends in ``/``), by scope and key, behind ``after``."""

    scope: str
    after: tuple[str, str] = ("", "")
    limit: int = 50


class FactsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of facts; ``more`` says that there are others behind the last one."""

    facts: tuple[FactEvent, ...]
    more: bool = False


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last ``limit`` versions of one fact; the answer is a tuple of ``FactEvent``, oldest first."""

    scope: str
    key: str
    limit: int = 50
