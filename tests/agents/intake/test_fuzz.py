"""Mutations never crash, hang or blow up what reads them; WORKMESH_FUZZ_S makes the run of each longer."""

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.agents.intake.archives import zipped
from tests.agents.intake.fuzzing import Reader, fuzz
from tests.agents.intake.targets import TARGETS

SECONDS = float(os.environ.get("WORKMESH_FUZZ_S", "1"))
SEED = 20261123  # of the short run: a longer one goes other ways each time
MB = 1 << 20
HEAD = b"id;kind;account;amount\n"
INVOICE = b"<Invoice xmlns='urn:oasis:names:specification:ubl:schema:xsd:Invoice-2'>"


@pytest.fixture(scope="module")
def reader() -> Iterator[Callable[[str], Reader]]:
    """The child that reads for a target."""
    with ExitStack() as stack:

        @cache
        def opened(name: str) -> Reader:
            found = Reader(TARGETS[name])
            stack.callback(found.close)
            return found

        yield opened


@pytest.mark.timeout(120 + 3 * SECONDS)
@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_the_corpus_are_read_or_refused(name: str) -> None:
    seed = SEED if "WORKMESH_FUZZ_S" not in os.environ else int.from_bytes(os.urandom(4), "big")
    count, failed = fuzz(TARGETS[name], SECONDS, seed)
    assert count > 5
    assert [(fault, data[:2000]) for fault, data in failed] == []


LARGE = {
    "rows": {
        "one row of commas": lambda: b"," * 60 * MB,
        "a row that never ends": lambda: b"a,b\n" + b'"\n",' * 12 * MB,
        "an open quote": lambda: HEAD + b'"' + b"x" * 60 * MB,
        "columns of quotes": lambda: b'"' * 60 * MB,
        "letters beyond Latin": lambda: ("a,b\n" + "\U0001f600" * 15 * MB).encode(),
        "empty arrays": lambda: b"[" + b"[]," * 20 * MB + b"[]]",
        "zeros": lambda: b"[" + b"0," * 30 * MB + b"0]",
        "a small array of zeros": lambda: b"[" + b"0," * 2 * (MB - 2) + b"0]",
        "deep arrays": lambda: b"[" * 4 * (MB - 1),
        "deep rows": lambda: b'{"a":' * 10 * MB,
        "empty lines": lambda: b"{}" + b"\n" * 60 * MB,
        "white space": lambda: b" " * 60 * MB,
        "a gzip bomb": lambda: gzip.compress(b"\x00" * 300 * MB),
        "gzip members": lambda: gzip.compress(b"") * 500_000,
        "a zip bomb": lambda: zipped([("a", b"\x00" * 100 * MB)]),
        "zip of many": lambda: zipped([(str(n), b"") for n in range(20_000)]),
        "zip in zip": lambda: zipped([("a.zip", zipped([("b", b"x")]))]),
        "mark alone": lambda: b"\xff\xfe" + b"\x00\xd8" * 30 * MB,
        "not UTF-8": lambda: b"\xc3" * 30 * MB,
    },
    "ubl": {
        "entities": lambda: b"<!DOCTYPE a [<!ENTITY b 'x'>" + b"<!ENTITY c '&b;&b;'>" * 100 + b"]>" + INVOICE,
        "an outer entity": lambda: b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>" + INVOICE + b"&b;",
        "an outer document type": lambda: b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'>" + INVOICE,
        "deep elements": lambda: INVOICE + b"<a>" * 5 * MB,
        "many elements": lambda: INVOICE + b"<a/>" * 5 * MB,
        "many attributes": lambda: INVOICE + b"<a " + b" ".join(b"a%d='b'" % n for n in range(MB)) + b"/>",
        "long text": lambda: INVOICE + b"x" * 31 * MB,
        "letters beyond Latin": lambda: INVOICE + "\U0001f600".encode() * 7 * MB,
        "comments": lambda: INVOICE + b"<!-- -->" * 3 * MB,
        "namespaces": lambda: INVOICE + b"".join(b"<a xmlns:b%d='c'>" % n for n in range(60)) * 5000,
    },
    "mapped": {
        "each of a million": lambda: b'{"list":[' + b"0," * (MB // 2 - 10) + b"0]}",
        "deep": lambda: b"[" * MB,
        "a large number": lambda: b'{"number":' + b"9" * MB + b"}",
        "a large text": lambda: b'{"text":"' + b"a" * MB + b'!"}',
        "many fields": lambda: b"a=1&" * (MB // 4),
        "one field often": lambda: b"a=1&" * 999,
        "objects": lambda: b"[" + b"{}," * (MB // 3) + b"{}]",
    },
}
CASES = [(name, case) for name, cases in LARGE.items() for case in cases]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "case"), CASES)
def test_an_input_made_to_be_slow_or_large_is_neither(reader: Callable[[str], Reader], name: str, case: str) -> None:
    assert reader(name).fault(LARGE[name][case]()) == ""
