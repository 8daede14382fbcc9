"""What memory accepts: every bound on a request, as pure functions that say what is wrong and what to do."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from mesh.errors import TerminalError
from mesh.facts import NAME_BYTES, Claim, Level, Scope, ValueType
from mesh.memory import Question

TEXT_BYTES = 8 * 1024
VALUE_BYTES = 32 * 1024
SOURCE_BYTES = 1024
REASON_BYTES = 2 * 1024
EVIDENCE_MAX = 64


class _Money(msgspec.Struct, forbid_unknown_fields=True):
    amount: int
    currency: str


def check_claim(claim: Claim) -> None:
    """Raises ``TerminalError`` for a claim that cannot be kept."""
    check_scope(claim.scope)
    check_name("subject", claim.subject)
    check_name("predicate", claim.predicate)
    if claim.subject.endswith("/"):
        raise TerminalError(f"the subject {claim.subject!r} ends in '/', which names all under it: name one")
    check_size("text", claim.text, TEXT_BYTES)
    check_size("source.uri", claim.source.uri, SOURCE_BYTES)
    if not claim.source.uri.strip():
        raise TerminalError(f"{claim.predicate!r} of {claim.subject!r} has no source.uri: every fact says its source")
    if len(bytes(claim.value)) > VALUE_BYTES:
        raise TerminalError(f"the value has {len(bytes(claim.value))} bytes, more than {VALUE_BYTES}: keep a reference")
    check_value(claim)
    for name, many in (("evidence", claim.evidence), ("derived_from", claim.derived_from)):
        if len(many) > EVIDENCE_MAX:
            raise TerminalError(f"{name} has {len(many)} entries, more than {EVIDENCE_MAX}: name what decides it")
    if claim.valid_from and claim.valid_to and claim.valid_to <= claim.valid_from:
        raise TerminalError(f"valid_to {claim.valid_to.isoformat()} is not after valid_from: turn them round")


_MODELS: dict[ValueType, Any] = {
    ValueType.TEXT: str,
    ValueType.INTEGER: int,
    ValueType.DECIMAL: Decimal,
    ValueType.BOOLEAN: bool,
    ValueType.TIME: datetime,
    ValueType.MONEY: _Money,
    ValueType.REFERENCE: str,
    ValueType.OBJECT: dict,
}


def check_value(claim: Claim) -> None:
    """Raises ``TerminalError`` unless the value is of the type that the claim names."""
    what = f"the value of {claim.predicate!r} of {claim.subject!r}"
    model = _MODELS[claim.type]
    try:
        plain = msgspec.json.decode(claim.value)
        if model in (Decimal, datetime) and not isinstance(plain, str):
            raise msgspec.ValidationError(f"Expected `str`, got `{type(plain).__name__}`")
        value = msgspec.convert(plain, model)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise TerminalError(f"{what} is no {claim.type}: {error}") from error
    if isinstance(value, datetime) and value.tzinfo is None:
        raise TerminalError(f"{what} is a time without a zone: write it with an offset, or Z")
    if isinstance(value, str) and not value.strip():
        raise TerminalError(f"{what} is empty: retract the fact instead")


def check_question(question: Question) -> None:
    """Raises ``TerminalError`` for a question out of bounds."""
    check_scope(question.scope)
    check_size("query", question.query, TEXT_BYTES)
    check_size("subject", question.subject, NAME_BYTES)
    check_size("predicate", question.predicate, NAME_BYTES)


def check_scope(scope: Scope) -> None:
    """Raises ``TerminalError`` unless each part is a name, and a session is named exactly where there is one."""
    for name in ("domain", "tenant", "session"):
        part = getattr(scope, name)
        _check_plain(f"scope.{name}", part)
        if "/" in part or part == "-":
            raise TerminalError(f"scope.{name} is {part!r}: use a name without '/', and leave it empty for none")
    if (scope.level is Level.SESSION) != bool(scope.session):
        raise TerminalError(f"scope {scope.text}: name a session at the level session, and only there")


def check_name(name: str, text: str) -> None:
    """Raises ``TerminalError`` unless this can be a subject or a predicate."""
    if not text.strip():
        raise TerminalError(f"the {name} is empty: say what the fact is about")
    _check_plain(name, text)


def check_size(name: str, text: str, limit: int) -> None:
    """Raises ``TerminalError`` for a text of more than ``limit`` bytes."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise TerminalError(f"the {name} is no text that can be written: {error}") from error
    if size > limit:
        raise TerminalError(f"the {name} has {size} bytes, more than {limit}: shorten it")


def _check_plain(name: str, text: str) -> None:
    check_size(name, text, NAME_BYTES)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise TerminalError(f"the {name} {text!r} holds control characters: use printable ones")
