"""Rows of CSV in any dialect and encoding, of JSON lines, and of archives of them."""

import gzip
import io
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.intake.arrival import Arrival
from agents.intake.documents.rows import read_rows
from agents.intake.documents.unpacking import UNPACKED_MAX
from agents.intake.errors import UnreadableError
from agents.intake.readers import Item


def items(data: bytes, content_type: str = "text/csv") -> list[Item]:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return list(read_rows(Arrival(source="erp", key="k", data=data, content_type=content_type, received_at=at)))


def rows(data: bytes) -> list[Any]:
    return [item.variables["row"] for item in items(data)]


WANTED = [{"id": "1", "name": "Müller; Söhne", "amount": "12,50"}, {"id": "2", "name": 'the "best"', "amount": "7"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects_and_encodings_are_told(delimiter: str, encoding: str, end: str) -> None:
    lines = [["id", "name", "amount"], *(list(row.values()) for row in WANTED)]
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in line] for line in lines]
    text = end.join(delimiter.join(line) for line in quoted) + end
    assert rows(text.encode(encoding)) == WANTED


def test_a_cell_may_hold_lines_and_a_file_one_column() -> None:
    assert rows(b'id,text\n1,"two\nlines"\n') == [{"id": "1", "text": "two\nlines"}]
    assert rows(b"id\n1\n2\n") == [{"id": "1"}, {"id": "2"}]
    assert rows(b"id,text\n\n1,x\n") == [{"id": "1", "text": "x"}]


def test_a_row_of_another_length_is_an_item_of_its_own_and_the_others_go_on() -> None:
    found = items(b"id,a\n1,x\n2\n3,y,z\n4,w\n")
    assert [item.error is None for item in found] == [True, False, False, True]
    assert str(found[1].error) == "line 3: 1 cells; the header has 2"
    assert str(found[2].error) == "line 4: 3 cells; the header has 2"
    assert found[2].data == b'{"id":"3","a":"y","":["z"]}'
    (again,) = items(found[1].data, found[1].content_type)
    assert again.variables["row"] == {"id": "2", "": []}


def test_json_lines_and_arrays_are_rows_too() -> None:
    assert rows(b'{"id": 1}\n\n{"id": 2}\n') == [{"id": 1}, {"id": 2}]
    assert rows(b' [{"id": 1}, {"id": 2}]') == [{"id": 1}, {"id": 2}]
    found = items(b'{"id": 1}\n{"id": \n{"id": 3}\n')
    assert [str(item.error or "")[:22] for item in found] == ["", "line 2: not a JSON obj", ""]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "header must name"),
        (b"a,,b\n1,2,3\n", "header must name"),
        (b"a,a\n1,2\n", "each otherwise"),
        (b"[1, ", "not a JSON array"),
        (b"[" * 2000, "not a JSON array"),
        (b"a,b\n1,\x00\n", "NUL"),
        (b"\xff\xfea", "utf-16"),
        (b'id,text\n1,"never closed\n', "line 2"),
    ],
)
def test_what_has_no_shape_is_refused_whole(data: bytes, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        items(data)


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_archives_are_opened_once() -> None:
    assert rows(gzip.compress(b"id\n1\n") + gzip.compress(b"2\n")) == [{"id": "1"}, {"id": "2"}]
    found = items(zipped(a=b"id\n1\n", b=b'{"id": 2}\n'))
    assert [(item.key, item.variables["row"]) for item in found] == [("k/a#1", {"id": "1"}), ("k/b#1", {"id": 2})]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"\0" * (UNPACKED_MAX + 1)), "unpacks to more"),
        (zipped(a=b"\0" * (UNPACKED_MAX // 2), b=b"\0" * (UNPACKED_MAX // 2 + 2)), "unpacks to more|NUL"),
        (gzip.compress(gzip.compress(b"id\n1\n")), "archive in an archive"),
        (zipped(a=zipped(b=b"id\n1\n")), "archive in an archive"),
        (gzip.compress(b"id\n1\n")[:-9], "ends too early"),
        (gzip.compress(b"id\n1\n") + b"rubbish", "not gzip"),
        (zipped(a=b"id\n1\n")[:-20], "not a zip file"),
        (zipped(**{f"f{n}": b"id\n" for n in range(101)}), "101 files"),
    ],
)
def test_bombs_and_broken_archives_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        items(data)
