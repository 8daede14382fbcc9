"""What came in as items: for each kind of mapping the variables that its expressions see.

The rule: what cannot be read is an item too, which goes to quarantine by itself: one bad row holds up no other.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from agents.intake.arrival import Arrival
from agents.intake.errors import UnreadableError
from mesh.events import check_depth

_FORM_FIELDS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that an event may be made of. ``data`` is what goes to quarantine when none can be.

    ``error`` says why it could not be read. ``parts`` are bytes to keep beside it, such as the attachments of a mail.
    """

    key: str
    data: bytes
    variables: Mapping[str, Any] = field(default_factory=dict)
    content_type: str = ""
    error: UnreadableError | None = None
    parts: tuple[bytes, ...] = ()


Reader = Callable[[Arrival], Iterator[Item]]


def read_json(arrival: Arrival) -> Iterator[Item]:
    """A body of JSON or of a form, and the headers of its request (lower-case). Raises ``UnreadableError``."""
    kind = arrival.content_type.partition(";")[0].strip().lower()
    body = _form(arrival.data) if kind == "application/x-www-form-urlencoded" else _json(arrival.data)
    yield Item(key=arrival.key, data=arrival.data, variables={"body": body, "headers": dict(arrival.headers)})


def _json(data: bytes) -> Any:
    try:
        data.decode("utf-8")
        check_depth(data)
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON: {error}") from error


def _form(data: bytes) -> dict[str, Any]:
    """The fields of a form; one that comes several times is a list."""
    try:
        pairs = parse_qsl(
            data.decode("utf-8"), keep_blank_values=True, max_num_fields=_FORM_FIELDS_MAX, errors="strict"
        )
    except ValueError as error:
        raise UnreadableError(f"not a form in UTF-8: {error}") from error
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found
