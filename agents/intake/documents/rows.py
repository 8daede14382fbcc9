"""Rows of files: CSV of any dialect and encoding, JSON lines or an array, each as ``row``.

The rule: a row that is wrong is an item of its own; only a file whose shape cannot be told is refused whole.
"""

import codecs
import csv
import io
import re
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
_CHUNK = 256 * 1024
_DELIMITERS = ",;\t|"
_COLUMNS_MAX = 1000
_ROWS_MAX = 1_000_000
_ROW_MAX = 1024 * 1024  # characters
_ARRAY_MAX = 4 * 1024 * 1024  # bytes: an array is read as a whole, which takes up to forty times its size
_CELL_MAX = 64 * 1024
_NOT_WHITE = re.compile(rb"\S")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_rows(arrival: Arrival) -> Iterator[Item]:
    """The rows of a file, in their order; raises ``UnreadableError`` where nothing of it can be read."""
    if arrival.content_type == ROW:
        yield _item(arrival.key, _object(arrival.data))
        return
    for name, data in unpacked(arrival.data):
        key = f"{arrival.key}/{name}" if name else arrival.key
        if _first(data) in (b"{", b"["):
            yield from _json_rows(key, data)
        else:
            yield from _csv_rows(key, data)


def _json_rows(key: str, data: bytes) -> Iterator[Item]:
    for number, line in enumerate(_array(data) if _first(data) == b"[" else io.BytesIO(data), 1):
        _require_bounded(number)
        if row := bytes(line).strip():
            yield _checked(f"{key}#{number}", row, f"line {number}")


def _array(data: bytes) -> list[msgspec.Raw]:
    if len(data) > _ARRAY_MAX:
        raise UnreadableError(f"a JSON array of {len(data)} bytes; {_ARRAY_MAX} are read: send one row a line")
    try:
        data.decode("utf-8")
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not a JSON array: {error}") from error


def _first(data: bytes) -> bytes:
    """The first byte that is no white space."""
    found = _NOT_WHITE.search(data)
    return found[0] if found else b""


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
    encoding = _encoding(data)
    delimiter, quote = _dialect(_sample(data, encoding))
    lines = _Lines(data, encoding)
    reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)
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
        lines.end_row()
        number += 1
        _require_bounded(number)
        if not any(cell.strip() for cell in cells):
            continue
        yield _row(f"{key}#{number}", names, cells, line)


class _Lines:
    """The lines of a text, decoded as they are read: a file is many times as large in memory as on disk."""

    def __init__(self, data: bytes, encoding: str) -> None:
        self._file = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
        self._left = _ROW_MAX

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._left -= len(line)
        if self._left < 0:
            raise csv.Error(f"a row is longer than {_ROW_MAX} characters")
        return line

    def end_row(self) -> None:
        """Another row may be as long."""
        self._left = _ROW_MAX


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


def _sample(data: bytes, encoding: str) -> str:
    """The beginning of a text, up to the end of a line."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding, newline="").read(_SAMPLE + 1)
    if len(text) <= _SAMPLE:
        return text
    sample = text[:_SAMPLE]
    return sample[: sample.rfind("\n") + 1] or sample


def _dialect(sample: str) -> tuple[str, str]:
    """Delimiter and quote, by the consistency of the rows that they make (van den Burg and others, 2019)."""
    try:
        found = clevercsv.Sniffer().sniff(sample)
    except clevercsv.Error:
        found = None
    if found is None or not found.delimiter or found.delimiter not in _DELIMITERS:
        header = sample.partition("\n")[0]
        return max(_DELIMITERS, key=header.count), '"'
    return found.delimiter, found.quotechar or '"'


def _encoding(data: bytes) -> str:
    """The encoding of a text: by its mark, as UTF-8, else by what its letters look like. All of it must be text."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _checked_encoding(data, encoding)
    try:
        return _checked_encoding(data, "utf-8")
    except UnreadableError:
        if b"\x00" in data:
            raise
    guess = charset_normalizer.from_bytes(data[:_GUESSED]).best()
    return _checked_encoding(data, guess.encoding if guess is not None else "cp1252")


def _checked_encoding(data: bytes, encoding: str) -> str:
    """The encoding; raises ``UnreadableError`` when the bytes are not in it, or hold a NUL."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        for start in range(0, len(data) + 1, _CHUNK):
            part = data[start : start + _CHUNK]
            if "\x00" in decoder.decode(part, final=start + _CHUNK > len(data)):
                raise UnreadableError("holds a NUL: no text")
    except (ValueError, LookupError) as error:
        raise UnreadableError(f"not text in {encoding}: {error}") from error
    return encoding


def _require_bounded(number: int) -> None:
    if number > _ROWS_MAX:
        raise UnreadableError(f"more than {_ROWS_MAX} rows", f"row {number}")
