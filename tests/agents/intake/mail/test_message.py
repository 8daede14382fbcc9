"""Headers, charsets, MIME: what people's and programs' mail is like, and what stands in the result."""

import base64
import hashlib

import pytest

from agents.intake.errors import UnreadableError
from agents.intake.mail.mail import Address, MailLimits
from agents.intake.mail.message import mail_key, read_mail
from tests.agents.intake.mail.letters import HEAD, letter, noted, read


@pytest.mark.parametrize(
    ("declared", "real", "words"),
    [
        ("us-ascii", "utf-8", "Größe für André"),
        ("iso-8859-1", "utf-8", "Größe für André"),
        ("utf-8", "cp1252", "Größe für André: 10 €"),
        ("utf-8", "koi8-r", "Здравствуйте, пришлите мне счёт за прошлый месяц, пожалуйста."),
        ("x-unknown", "utf-8", "Größe"),
        ("idna", "utf-8", "Größe"),
        ("iso-8859-1", "cp1252", "„10 €“ gut"),
        ("gb2312", "gb18030", "您好我想退货。"),
    ],
)
def test_a_charset_that_lies_about_itself_is_found_out(declared: str, real: str, words: str) -> None:
    mail = read(words.encode(real), f"Content-Type: text/plain; charset={declared}")
    assert mail.text == words
    lies = (declared, real) not in {("iso-8859-1", "cp1252"), ("gb2312", "gb18030")}  # the wider one is usual
    assert bool(mail.notes and "date" not in mail.notes[0].place) == lies, noted(mail)


def test_nuls_and_other_controls_are_left_out_of_the_text() -> None:
    mail = read(b"a\x00b\x07c\r\nd")
    assert mail.text == "abc\nd"
    assert "NUL" in noted(mail)


def test_encoded_words_are_joined_even_in_the_middle_of_a_character() -> None:
    first, second = "Größe".encode()[:3], "Größe".encode()[3:]
    words = " ".join(f"=?utf-8?b?{base64.b64encode(each).decode()}?=" for each in (first, second))
    assert (
        read("x", head=f"From: a@b.c\nSubject: {words} und =?iso-8859-1?q?mehr_=FC?=\n").subject == "Größe und mehr ü"
    )


def test_a_name_in_the_header_cannot_bring_lines_or_hidden_characters() -> None:
    mail = read("x", head="From: =?utf-8?q?An=0Ano=E2=80=AEn?= <a@b.c>\n")
    assert mail.from_ == Address("An non", "a@b.c")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("=?utf-8?q?Smith,_Jo?= <j@x.example>", [("Smith, Jo", "j@x.example")]),
        ('"Smith, Jo" <j@x.example>, k@x.example', [("Smith, Jo", "j@x.example"), ("", "k@x.example")]),
        ("j@x.example (Jo Smith)", [("Jo Smith", "j@x.example")]),
        ("Team: a@x.example, b@x.example;, c@x.example", [("", f"{each}@x.example") for each in "abc"]),
        ("undisclosed-recipients:;", []),
        ("a@x.example; b@x.example", [("", "a@x.example"), ("", "b@x.example")]),
        ("<@relay.example:a@x.example>", [("", "a@x.example")]),
        ("Jo", [("Jo", "")]),
        ("((((", []),
    ],
)
def test_addresses_are_read_as_they_are_written(field: str, expected: list[tuple[str, str]]) -> None:
    mail = read("x", head=f"From: a@b.c\nTo: {field}\n")
    assert [(each.name, each.address) for each in mail.to] == expected


def test_two_from_headers_are_both_shown_and_noted() -> None:
    mail = read("x", head="From: a@b.c\nFrom: d@e.f\nMessage-ID: <1@b>\n")
    assert [each.address for each in mail.froms] == ["a@b.c", "d@e.f"]
    assert "more than one" in noted(mail)


def test_the_thread_is_the_first_reference_else_what_is_answered_else_the_message() -> None:
    assert read("x", "References: <0@b> <5@b>", "In-Reply-To: <5@b>").thread == "0@b"
    assert read("x", "In-Reply-To: <5@b>").thread == "5@b"
    assert read("x").thread == "1@shop.example"
    nameless = letter("x", head="From: a@b.c\n")
    assert read_mail(nameless).mail.thread == hashlib.sha256(nameless).hexdigest() == mail_key(nameless)


@pytest.mark.parametrize("date", ["", "Pn, 29 paX 2007 21:13:00 +0100", "Mon, 30 Jun 3609 15:33:50 +0600", "1 " * 5000])
def test_a_date_that_is_none_is_none_with_a_note(date: str) -> None:
    mail = read("x", f"Date: {date}")
    assert mail.date is None
    assert "date" in noted(mail)


def test_a_line_that_is_no_field_is_passed_over_and_a_body_without_empty_line_is_found() -> None:
    mail = read("x", head="From: a@b.c\nwhat is this\nSubject: s\n")
    assert (mail.subject, mail.text) == ("s", "x")
    mail = read_mail(b"From: a@b.c\nSubject: s\nDear all,\nplease: come\n").mail
    assert mail.subject == "s"
    assert "no empty line" in noted(read_mail(b"From: a@b.c\nSubject: s\nDear all, come\n").mail)


def multipart(kind: str, *parts: str, boundary: str = "b", close: str = "--b--\n") -> bytes:
    body = "".join(f"--b\n{each}\n" for each in parts) + close
    return letter(body, "MIME-Version: 1.0", f"Content-Type: multipart/{kind}; boundary={boundary}")


PLAIN = "Content-Type: text/plain\n\nplain words\n"
HTML = "Content-Type: text/html\n\n<p>html words</p>\n"
FILE = 'Content-Type: image/png\nContent-Disposition: attachment; filename="a.png"\n\nx\n'


def test_of_an_alternative_the_plain_part_is_read_and_html_only_where_there_is_none() -> None:
    mail = read_mail(multipart("alternative", PLAIN, HTML)).mail
    assert (mail.text, mail.html_only) == ("plain words", False)
    mail = read_mail(multipart("alternative", "Content-Type: text/plain\n\n \n", HTML)).mail
    assert (mail.text, mail.html_only) == ("html words", True)


@pytest.mark.parametrize(
    "data",
    [
        multipart("mixed", PLAIN, FILE, close=""),
        multipart("mixed", PLAIN, FILE, close="--b-\n"),
        multipart("mixed", PLAIN, FILE, boundary="other"),
        multipart("mixed", PLAIN, FILE, boundary='""'),
    ],
    ids=["not closed", "half closed", "another boundary", "no boundary"],
)
def test_broken_boundaries_are_mended_with_a_note(data: bytes) -> None:
    mail = read_mail(data).mail
    assert mail.text == "plain words"
    assert [each.name for each in mail.attachments] == ["a.png"]
    assert "boundary" in noted(mail)


def test_a_multipart_without_any_part_is_read_as_text() -> None:
    mail = read("only words", "Content-Type: multipart/mixed; boundary=b")
    assert mail.text == "only words"
    assert "without parts" in noted(mail)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("filename*=utf-8''%e2%82%ac%20rates.pdf", "€ rates.pdf"),
        ("filename*0*=utf-8''%e2%82; filename*1*=%ac%20ra; filename*2=tes.pdf", "€ rates.pdf"),
        ('filename="=?iso-8859-1?q?Gr=F6=DFe.pdf?="', "Größe.pdf"),
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="C:\\\\tmp\\\\x.exe"', "x.exe"),
        ("filename=..", ""),
        ("filename*=utf-8''cod%e2%80%aefdp.exe", "codfdp.exe"),
        (f"filename={'n' * 400}.pdf", f"{'n' * 180}.pdf"),
    ],
)
def test_names_of_files_are_decoded_and_hold_no_path(field: str, name: str) -> None:
    part = f"Content-Type: application/pdf\nContent-Disposition: attachment; {field}\n\nx\n"
    assert [each.name for each in read_mail(multipart("mixed", PLAIN, part)).mail.attachments] == [name]


def test_an_attachment_is_known_by_its_content_and_kept_under_its_digest() -> None:
    program = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00"
    part = (
        "Content-Type: application/pdf; name=bill.pdf\nContent-Disposition: attachment\n"
        f"Content-Transfer-Encoding: base64\n\n{base64.b64encode(program).decode()}\n"
    )
    parsed = read_mail(multipart("mixed", PLAIN, part))
    (found,) = parsed.mail.attachments
    assert (found.name, found.type, found.size) == ("bill.pdf", "application/pdf", len(program))
    assert "executable" in found.found_type
    assert parsed.parts == {hashlib.sha256(program).hexdigest(): program}


def test_files_written_into_the_text_by_uuencode_are_attachments() -> None:
    parsed = read_mail(letter("See:\nbegin 644 cat.txt\n#0V%T\n`\nend\nBye\n"))
    assert parsed.mail.text == "See:\nBye"
    assert [(each.name, each.size) for each in parsed.mail.attachments] == [("cat.txt", 3)]
    assert list(parsed.parts.values()) == [b"Cat"]
    assert read("begin 644 x\nno end to it\n").attachments == ()


def test_flowed_text_is_joined() -> None:
    mail = read("one \ntwo\n> q1 \n> q2\n\nthree\n", "Content-Type: text/plain; format=flowed")
    assert (mail.text, mail.quoted) == ("one two\n\nthree", "> q1 q2")


def test_broken_base64_gives_what_can_be_read() -> None:
    mail = read("aGVsbG8gd29ybGQ", "Content-Transfer-Encoding: base64")
    assert mail.text == "hello world"
    assert "base64" in noted(mail)


@pytest.mark.parametrize(
    ("data", "limits", "reason"),
    [
        (letter("x" * 2000), MailLimits(message_bytes=1000), "larger than 1000"),
        (letter("x", "X: " + "y" * 2000), MailLimits(header_bytes=1000), "header larger"),
        (b"", MailLimits(), "no header"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", MailLimits(), "no header"),
    ],
)
def test_what_is_too_large_or_no_message_is_refused(data: bytes, limits: MailLimits, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as raised:
        read_mail(data, limits)
    assert raised.value.reason


def test_parts_depth_files_and_text_over_a_limit_are_left_out_with_a_note() -> None:
    mail = read_mail(multipart("mixed", *[PLAIN] * 9), MailLimits(parts=4)).mail
    assert mail.text.count("plain words") == 3
    assert "more than 4 parts" in noted(mail)
    nested = HEAD + "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(2000)) + "\nx\n"
    mail = read_mail(nested.encode()).mail
    assert "nested deeper than 20" in noted(mail)
    parsed = read_mail(multipart("mixed", PLAIN, FILE + "y" * 300), MailLimits(attachment_bytes=100))
    assert [each.kept for each in parsed.mail.attachments] == [False]
    assert parsed.parts == {}
    mail = read_mail(letter("word " * 100), MailLimits(text_chars=50)).mail
    assert len(mail.text) <= 50
    assert "text cut" in noted(mail)
