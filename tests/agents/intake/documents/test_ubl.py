"""UBL invoices and credit notes: the real ones against golden files, and what is wrong with others."""

from pathlib import Path

import msgspec
import pytest

from agents.intake.documents.ubl import read_ubl
from agents.intake.errors import UnreadableError

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("Allowance-example", "base-creditnote-correction", "base-example", "vat-category-E")


@pytest.mark.parametrize("name", NAMES)
def test_the_real_documents_are_read_as_a_person_reads_them(shared_data: Path, name: str) -> None:
    document, parts = read_ubl((shared_data / "invoices" / f"{name}.xml").read_bytes())
    assert msgspec.json.decode(msgspec.json.encode(document)) == msgspec.json.decode(
        (GOLDEN / f"{name}.json").read_bytes()
    )
    assert document.problems == ()
    assert {each.digest for each in document.attachments if each.digest} == set(parts)


def changed(shared_data: Path, old: bytes, new: bytes) -> bytes:
    """The first example with other bytes."""
    data = (shared_data / "invoices" / "base-example.xml").read_bytes()
    assert old in data
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"<Invoice", b'<!DOCTYPE x [<!ENTITY a "b">]><Invoice', "document type"),
        (b"<Invoice", b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Invoice', "document type"),
        (b"</Invoice>", b"", "not XML"),
        (b"<Invoice", b"<Bill", "not XML"),
        (b"DocumentCurrencyCode>EUR", b"DocumentCurrencyCode>", "DocumentCurrencyCode: is missing"),
    ],
)
def test_what_is_no_document_is_told_with_its_place(shared_data: Path, old: bytes, new: bytes, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        read_ubl(changed(shared_data, old, new))


def test_what_does_not_add_up_is_told_by_its_rule(shared_data: Path) -> None:
    document, _ = read_ubl((shared_data / "invoices" / "base-example.xml").read_bytes())
    old = f">{document.payable}</cbc:PayableAmount>".encode()
    wrong, _ = read_ubl(changed(shared_data, old, b">9999999.99</cbc:PayableAmount>"))
    assert [problem.partition(":")[0] for problem in wrong.problems] == ["BR-CO-16"]
    assert wrong.payable_minor == 999_999_999
    for number in (b"1e9", b"NaN", b"12,50", b"x" * 50):
        with pytest.raises(UnreadableError, match=r"PayableAmount: .* is no number"):
            read_ubl(changed(shared_data, old, b">" + number + b"</cbc:PayableAmount>"))


def test_depth_and_numbers_of_elements_are_bounded() -> None:
    with pytest.raises(UnreadableError, match="levels deep"):
        read_ubl(b"<a>" * 100_000)
    with pytest.raises(UnreadableError, match="elements"):
        read_ubl(b"<a>" + b"<b/>" * 300_000 + b"</a>")
    with pytest.raises(UnreadableError, match="neither"):
        read_ubl(b"<a/>")
    with pytest.raises(UnreadableError, match="not XML"):
        read_ubl(b'<?xml version="1.0" encoding="no-such"?><a/>')
