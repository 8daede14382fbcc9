"""What a policy can oblige the executor to: which obligations there are, and what their values mean.

The rule: an obligation that is not known here, or whose value means nothing, permits nothing; none is passed over.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mesh.errors import WorkmeshError
from mesh.records import Json, Obligation
from mesh.redaction import HIDDEN

NOTIFY: Final = "notify"
REDACT: Final = "redact"
RECEIPT: Final = "receipt"
KNOWN: Final = (NOTIFY, RECEIPT, REDACT)

_POINTER = re.compile(r"(/([^~/]|~[01])*)+")  # RFC 6901, but not the whole document
_WHO = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


class ObligationError(WorkmeshError):
    """An obligation that nobody could carry out."""


def parse(text: str) -> Obligation:
    """The obligation of an annotation ``name:value``; raises ``ObligationError``."""
    name, _, value = text.partition(":")
    obligation = Obligation(name=name, value=value)
    check(obligation)
    return obligation


def check(obligation: Obligation) -> None:
    """Raise ``ObligationError`` unless the executor can carry it out."""
    name, value = obligation.name, obligation.value
    if name not in KNOWN:
        raise ObligationError(f"there is no obligation {name!r}: known are {', '.join(KNOWN)}")
    if name == NOTIFY and (not _WHO.fullmatch(value) or value != value.strip()):
        raise ObligationError(f"{name}:{value!r} names nobody to tell: 1 to 128 characters, as notify:treasury")
    if name in (REDACT, RECEIPT) and not _POINTER.fullmatch(value):
        raise ObligationError(f"{name}:{value!r} is no JSON pointer into the output, such as {name}:/card/number")


def values(obligations: Sequence[Obligation], name: str, step: str) -> tuple[str, ...]:
    """The values of all obligations of this name on a step, each once, in order."""
    return tuple(dict.fromkeys(each.value for each in obligations if each.name == name and each.step in ("", step)))


def redacted(output: Json, pointers: Sequence[str]) -> Json:
    """The output with what the pointers name hidden; what is not there needs no hiding."""
    if not pointers:
        return output
    value = msgspec.json.decode(output)
    for pointer in pointers:
        *path, last = _tokens(pointer)
        parent = _find(value, path)
        if isinstance(parent, dict) and last in parent:
            parent[last] = HIDDEN
        elif isinstance(parent, list) and (index := _index(parent, last)) is not None:
            parent[index] = HIDDEN
    return Json(msgspec.json.encode(value))


def missing(output: Json, pointers: Sequence[str]) -> tuple[str, ...]:
    """The pointers where the output has nothing: no value, null, or an empty string, list or object."""
    if not pointers:
        return ()
    value = msgspec.json.decode(output)
    return tuple(pointer for pointer in pointers if _find(value, _tokens(pointer)) in (None, "", [], {}))


def _tokens(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _find(value: Any, path: Sequence[str]) -> Any:
    for token in path:
        if isinstance(value, dict):
            value = value.get(token)
        elif isinstance(value, list):
            index = _index(value, token)
            value = None if index is None else value[index]
        else:
            return None
    return value


def _index(items: list[Any], token: str) -> int | None:
    plain = token == "0" or (token.isascii() and token.isdecimal() and not token.startswith("0"))
    return int(token) if plain and int(token) < len(items) else None
