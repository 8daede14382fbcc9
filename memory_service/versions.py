"""The rules of one fact: which version follows the one that stands, if any. Pure, from struct to struct.

The rule: versions count up by one, and neither a stale nor a repeated request makes one.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from mesh.canonical import canonical_json
from mesh.errors import TerminalError
from mesh.facts import FactEvent, FactStatus, ForgetRequest, RememberRequest

NULL = msgspec.Raw(b"null")


def remembered(stands: FactEvent | None, request: RememberRequest, at: datetime) -> FactEvent | None:
    """The version that this request makes, or ``None`` when what stands is as new or says the same.

    Raises ``TerminalError`` for a value that is no JSON which can be read back.
    """
    value = _canonical(request.value)
    if stands is not None:
        if 0 < request.as_of <= stands.as_of:
            return None
        same = stands.text == request.text and bytes(stands.value) == bytes(value)
        if same and stands.status is FactStatus.CURRENT:
            return None
    return FactEvent(
        scope=request.scope,
        key=request.key,
        text=request.text,
        status=FactStatus.CURRENT,
        version=stands.version + 1 if stands else 1,
        provenance=request.provenance,
        at=at,
        value=value,
        as_of=request.as_of,
    )


def forgotten(stands: FactEvent | None, request: ForgetRequest, at: datetime) -> FactEvent | None:
    """The version that forgets, or ``None`` when it is forgotten already.

    It keeps ``as_of``, so that a stale count does not bring the fact back. Raises ``TerminalError`` for no such fact.
    """
    if stands is None:
        raise TerminalError(f"no fact {request.key!r} in scope {request.scope!r}: there is nothing to forget")
    if stands.status is FactStatus.FORGOTTEN:
        return None
    return msgspec.structs.replace(
        stands,
        text="",
        value=NULL,
        status=FactStatus.FORGOTTEN,
        version=stands.version + 1,
        provenance=request.provenance,
        at=at,
    )


def told(versions: Iterable[FactEvent]) -> list[FactEvent]:
    """The versions as a history tells them: the texts before the last forgetting are not told again."""
    found = list(versions)
    last = max((number for number, fact in enumerate(found) if fact.status is FactStatus.FORGOTTEN), default=-1)
    return [_emptied(fact) if number < last else fact for number, fact in enumerate(found)]


def _emptied(fact: FactEvent) -> FactEvent:
    return msgspec.structs.replace(fact, text="", value=NULL)


def _canonical(value: msgspec.Raw) -> msgspec.Raw:
    try:
        return msgspec.Raw(canonical_json(value))
    except (ValueError, OverflowError, RecursionError) as error:
        raise TerminalError(f"the value is not JSON that can be read back: {error}") from error
