"""Messages that are made to be slow or large are neither."""

import pytest

from tests.agents.intake.fuzzing import Reader
from tests.agents.intake.mail.letters import HEAD
from tests.agents.intake.targets import MAIL

MB = 1 << 20
HEADER = HEAD.encode()
LARGE = {  # each of them took seconds to minutes, or hundreds of megabytes, at some time
    "deep HTML": HEADER + b"Content-Type: text/html\n\n" + b"<div>" * MB,
    "tables": HEADER + b"Content-Type: text/html\n\n" + b"<table><tr><td>x" * MB,
    "formats": HEADER + b"Content-Type: text/html\n\n" + b"<a><b><i><u><font>x<p>" * MB,
    "HTML in many parts": HEADER
    + b"Content-Type: multipart/mixed; boundary=b\n\n"
    + (b"--b\nContent-Type: text/html\n\n" + b"<p>x" * 25_000) * 190,
    "uuencoded": HEADER + b"\n" + b"begin 644 x\n#0V%T\nend\n" * MB,
    "begun": HEADER + b"\n" + b"begin 644 x\nend\n" * MB,
    "boundaries with spaces": HEADER
    + b"Content-Type: multipart/mixed; boundary=b\n\n"
    + (b"--b" + b" " * 70_000 + b"x\n") * 300,
    "dashes with spaces": HEADER + b"Content-Type: multipart/mixed\n\n" + (b"--a" + b" " * 190 + b"b\n") * 100_000,
    "flowed": HEADER + b"Content-Type: text/plain; format=flowed\n\n" + b"a \n" * 8 * MB,
    "half UTF-16": HEADER + b"Content-Type: text/plain; charset=utf-16\n\n" + b"\x00\xd8" * 12 * MB,
    "HZ": HEADER + b"Content-Type: text/plain; charset=hz-gb-2312\n\n" + b"~{" * 12 * MB,
    "nested": HEADER
    + b"".join(b"Content-Type: multipart/alternative; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(19))
    + b"Content-Type: text/plain\n\n"
    + b"y\n" * 10 * MB,
    "lines without colon": HEADER + b"a\n" * 120_000 + b"b: c\n\nx",
    "empty report": HEADER
    + b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nx\n"
    + b"\n" * 250_000,
    "on on on": HEADER + b"\n" + b"on " * 8 * MB,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", LARGE)
def test_a_message_made_to_be_slow_is_not(name: str) -> None:
    reader = Reader(MAIL)
    try:
        assert reader.fault(LARGE[name]) == ""
    finally:
        reader.close()
