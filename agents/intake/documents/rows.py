"""Rows of files: CSV of any dialect and encoding, JSON lines or an array, each as ``row``.

The rule: a row that is wrong is an item of its own; only a file whose shape cannot be told is refused whole.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

import charset_normalizer
import clevercsv
import msgspec

from agents.intake.arrival import Arrival
from agents.intake.documents.unpacking import unpacked
from agents.intake.errors import UnreadableError
from agents.intake.readers import Item
from mesh.events import check_depth

ROW = "application/json"
_SAMPLE = 8192  # characters: what tells a dialect, and can take half a second at worst
_GUESSED = 64 * 1024  # bytes
_DELIMITERS = ",;\t|"
_COLUMNS_MAX = 1000
_ROWS_MAX = 1_000_000
_CELL_MAX = 64 * 1024
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_rows(arrival: Arrival) -> Iterator[Item]:
    """The rows of a file, in their order; raises ``UnreadableError`` where nothing of it can be read."""
    if arrival.content_type == ROW:
        yield _item(arrival.key, _object(arrival.data))
        return
    for name, data in unpacked(arrival.data):
        key = f"{arrival.key}/{name}" if name else arrival.key
        if data.lstrip()[:1] in (b"{", b"["):
            yield from _json_rows(key, data)
        else:
            yield from _csv_rows(key, data)


def _json_rows(key: str, data: bytes) -> Iterator[Item]:
    if data.lstrip()[:1] == b"[":
        try:
            data.decode("utf-8")
            check_depth(data)
            found = [bytes(each) for each in msgspec.json.decode(data, type=list[msgspec.Raw])]
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"not a JSON array: {error}") from error
    else:
        found = data.splitlines()
    for number, line in enumerate(found, 1):
        _require_bounded(number)
        if line.strip():
            yield _checked(f"{key}#{number}", line, f"line {number}")


def _checked(key: str, line: bytes, place: str) -> Item:
    try:
        return _item(key, _object(line))
    except UnreadableError as error:
        return Item(key=key, data=line, content_type=ROW, error=UnreadableError(error.reason, place))


def _object(data: bytes) -> dict[str, Any]:
    try:
        data.decode("utf-8")
        check_depth(data)
        return msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not a JSON object: {error}") from error


def _csv_rows(key: str, data: bytes) -> Iterator[Item]:
    text = _text(data)
    delimiter, quote = _dialect(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True)
    names = _header(reader)
    number = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader is in the middle of a row: what follows cannot be told from it.
            raise UnreadableError(str(error), f"line {line}") from error
        number += 1
        _require_bounded(number)
        if not any(cell.strip() for cell in cells):
            continue
        yield _row(f"{key}#{number}", names, cells, line)


def _row(key: str, names: list[str], cells: list[str], line: int) -> Item:
    if len(cells) == len(names) and all(len(cell) <= _CELL_MAX for cell in cells):
        return _item(key, dict(zip(names, cells, strict=True)))
    why = f"{len(cells)} cells; the header has {len(names)}"
    if len(cells) == len(names):
        why = f"a cell is longer than {_CELL_MAX} characters"
    plain = dict(zip(names, cells, strict=False)) | {"": cells[len(names) :]}
    data = msgspec.json.encode(plain)
    return Item(key=key, data=data, content_type=ROW, error=UnreadableError(why, f"line {line}"))


def _item(key: str, row: dict[str, Any]) -> Item:
    return Item(key=key, data=msgspec.json.encode(row), content_type=ROW, variables={"row": row})


def _header(reader: Any) -> list[str]:
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UnreadableError(str(error), "line 1") from error
    if not names or not all(names) or len(set(names)) != len(names):
        raise UnreadableError("the header must name every column, each otherwise", "line 1")
    if len(names) > _COLUMNS_MAX:
        raise UnreadableError(f"{len(names)} columns; {_COLUMNS_MAX} are read", "line 1")
    return names


def _dialect(text: str) -> tuple[str, str]:
    """Delimiter and quote, by the consistency of the rows that they make (van den Burg and others, 2019)."""
    sample = text[:_SAMPLE]
    if len(text) > _SAMPLE:
        sample = sample[: sample.rfind("\n") + 1] or sample
    try:
        found = clevercsv.Sniffer().sniff(sample)
    except clevercsv.Error:
        found = None
    if found is None or not found.delimiter or found.delimiter not in _DELIMITERS:
        header = sample.partition("\n")[0]
        return max(_DELIMITERS, key=header.count), '"'
    return found.delimiter, found.quotechar or '"'


def _text(data: bytes) -> str:
    """The bytes as text: by their mark, as UTF-8, else by what their letters look like."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data, encoding)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        guess = charset_normalizer.from_bytes(data[:_GUESSED]).best()
        text = _decoded(data, guess.encoding if guess is not None else "cp1252")
    if "\x00" in text:
        raise UnreadableError("holds a NUL: no text")
    return text


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise UnreadableError(f"not text in {encoding}: {error}") from error


def _require_bounded(number: int) -> None:
    if number > _ROWS_MAX:
        raise UnreadableError(f"more than {_ROWS_MAX} rows", f"row {number}")
