"""Which arguments of a step come from outside text: found by content, since models do not say where they copied from.

The rule: in doubt it is tainted. Paraphrase leaves no trace here; what policy relies on must be a fact of the system.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mesh.records import Json, Reading, Struct


class Outside(Struct, frozen=True, kw_only=True):
    """An event's data, split: ``texts`` that came from outside, and ``known`` values of all other fields."""

    texts: tuple[str, ...]
    known: frozenset[str]


def read_outside(data: Json, pointers: tuple[str, ...]) -> Outside:
    """Split the data by the JSON pointers (RFC 6901) to fields of outside text; whatever lies below one is outside."""
    if not pointers:
        return Outside(texts=(), known=frozenset())
    texts: list[str] = []
    known: set[str] = set()
    for path, value in _leaves(msgspec.json.decode(data)):
        inside = any(path == pointer or path.startswith(pointer + "/") for pointer in pointers)
        if inside:
            texts.append(_text(value))
        elif not path.endswith("/"):
            known.add(_text(value))
    return Outside(texts=tuple(text for text in texts if text), known=frozenset(known))


def tainted_arguments(args: Json, outside: Outside) -> frozenset[str]:
    """Names of the top-level arguments that hold a part of an outside text, or the whole of one.

    A value that also stands in a field that is not from outside is not tainted.
    """
    if not outside.texts:
        return frozenset()
    named: dict[str, Any] = msgspec.json.decode(args, type=dict[str, Any])
    return frozenset(
        name for name, value in named.items() if any(_is_tainted(leaf, outside) for _, leaf in _leaves(value))
    )


def with_readings(outside: Outside, data: Json, readings: Iterable[Reading]) -> Outside:
    """With the outside texts that tools answered while planning; what the event itself says is not tainted by them."""
    texts = [text for each in readings if each.taint for text in read_outside(each.answer, each.taint).texts]
    if not texts:
        return outside
    split = bool(outside.texts or outside.known)  # else nothing of the event is from outside
    known = outside.known if split else frozenset(_text(value) for _, value in _leaves(msgspec.json.decode(data)))
    return msgspec.structs.replace(outside, texts=(*outside.texts, *texts), known=known)


def _is_tainted(value: str | int | float, outside: Outside) -> bool:
    text = _text(value)
    if not text or text in outside.known:
        return False
    if isinstance(value, str):
        return any(text in other or other in text for other in outside.texts)
    whole = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")
    return any(whole.search(other) for other in outside.texts)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Every string and number with its JSON pointer; the keys of an object stand below it, under an empty name."""
    match value:
        case bool() | None:
            return
        case str() | int() | float():
            yield path, value
        case list():
            for n, item in enumerate(value):
                yield from _leaves(item, f"{path}/{n}")
        case dict():
            for key, item in value.items():
                yield f"{path}/", key
                yield from _leaves(item, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")


def _text(value: str | int | float) -> str:
    return str(value).strip().casefold()
