"""Bounces, automatic answers, lists; and whose word is believed on who sent a message."""

import pytest

from agents.intake.mail.mail import Mail
from tests.agents.intake.mail.letters import noted, read


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("Auto-Submitted: auto-replied", "auto_reply"),
        ("Auto-Submitted: auto-generated (why)", "auto_reply"),
        ("Auto-Submitted: no", "message"),
        ("X-Auto-Response-Suppress: All", "auto_reply"),
        ("X-Autoreply: yes", "auto_reply"),
        ("Precedence: auto_reply", "auto_reply"),
        ("Return-Path: <>", "auto_reply"),
        ("Return-Path: <ann@shop.example>", "message"),
        ("Precedence: bulk", "list"),
        ("List-Id: News <news.shop.example>", "list"),
        ("List-Unsubscribe: <mailto:x@y.example>", "list"),
        ("X-Failed-Recipients: bob@x.example", "bounce"),
    ],
)
def test_the_kind_is_read_from_the_header(field: str, kind: str) -> None:
    assert read("x", field).kind == kind


def test_mail_of_the_daemon_is_a_bounce_even_without_a_report() -> None:
    mail = read("Undeliverable.", head="From: Mail Delivery System <MAILER-DAEMON@mx.example>\n")
    assert mail.kind == "bounce"
    assert mail.bounce is not None and mail.bounce.recipients == ()


REPORT = """--b
Content-Type: text/plain

It could not be delivered.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; bob@x.example
Action: failed
Status: 5.1.1 (no such user)
Diagnostic-Code: smtp; 550 5.1.1 unknown

Original-Recipient: rfc822;eve@x.example
Action: Delayed
Status: 4.2.2
--b
Content-Type: text/rfc822-headers

Message-ID: <77@firm.example>
Subject: Your order
--b--
"""


def report(kind: str) -> Mail:
    return read(REPORT, f"Content-Type: multipart/report; report-type={kind}; boundary=b")


def test_a_delivery_report_says_who_why_and_of_which_message() -> None:
    mail = report("delivery-status")
    assert mail.kind == "bounce"
    assert mail.bounce is not None
    assert [(each.address, each.action, each.status) for each in mail.bounce.recipients] == [
        ("bob@x.example", "failed", "5.1.1"),
        ("eve@x.example", "delayed", "4.2.2"),
    ]
    assert mail.bounce.recipients[0].diagnostic == "550 5.1.1 unknown"
    assert (mail.bounce.status, mail.bounce.original_id) == ("5.1.1", "77@firm.example")
    assert mail.text == "It could not be delivered."


def test_a_receipt_of_reading_is_an_automatic_reply() -> None:
    assert report("disposition-notification").kind == "auto_reply"


def test_many_hops_are_noted() -> None:
    assert "loop" in noted(read("x", *["Received: from a by b; Mon, 5 Jan 2026 10:00:00 +0000"] * 41))


MX = "Authentication-Results: mx.firm.example; "
HOP = "Received: from mail.shop.example by mx.firm.example; Mon, 5 Jan 2026 10:00:00 +0000"


@pytest.mark.parametrize(
    ("fields", "authenticated"),
    [
        ((f"{MX}dmarc=pass header.from=shop.example",), True),
        ((f"{MX}dmarc=pass header.from=evil.example",), False),
        ((f"{MX}dmarc=fail header.from=shop.example; spf=pass smtp.mailfrom=ann@shop.example",), False),
        ((f"{MX}dkim=pass header.d=shop.example",), True),
        ((f"{MX}dkim=pass (good; really) header.i=@shop.example",), True),
        ((f"{MX}dkim=pass header.d=evil.example",), False),
        ((f"{MX}dkim=pass header.d=mail.shop.example",), False),
        ((f"{MX}dkim=pass header.d=example",), False),
        ((f"{MX}dkim=fail header.d=shop.example; dkim=pass header.d=evil.example",), False),
        ((f"{MX}spf=pass smtp.mailfrom=bounce@shop.example",), True),
        ((f"{MX}spf=softfail smtp.mailfrom=bounce@shop.example",), False),
        ((f"{MX}none",), False),
        (("Authentication-Results: mx.evil.example; dmarc=pass header.from=shop.example",), False),
        ((f'{MX}spf=fail reason="; dmarc=pass header.from=shop.example"',), False),
        # below the server's own Received stands what the sender wrote
        ((f"{MX}dmarc=fail header.from=shop.example", HOP, f"{MX}dmarc=pass header.from=shop.example"), False),
        ((f"{MX}spf=none", f"{MX}dkim=pass header.d=shop.example", HOP), True),
    ],
)
def test_only_the_trusted_servers_word_on_the_domain_of_from_counts(
    fields: tuple[str, ...], authenticated: bool
) -> None:
    assert read("x", *fields, trusted=("MX.firm.example",)).auth.authenticated == authenticated
    assert not read("x", *fields).auth.authenticated


@pytest.mark.parametrize(
    "head",
    [
        "From: ann@shop.example, eve@evil.example\n",
        "From: ann@shop.example\nFrom: eve@evil.example\n",
        "From: eve@evil.example\nFrom: eve@evil.example\n",
        "Sender: ann@shop.example\n",
    ],
)
def test_a_message_without_exactly_one_sender_is_never_authenticated(head: str) -> None:
    fields = (f"{MX}dmarc=pass; dkim=pass header.d=shop.example; spf=pass smtp.mailfrom=a@evil.example",)
    assert not read("x", *fields, head=head, trusted=("mx.firm.example",)).auth.authenticated


def test_the_result_of_each_method_is_shown() -> None:
    auth = read("x", f"{MX}spf=softfail; dkim=pass header.d=a.example; dmarc=none", trusted=("mx.firm.example",)).auth
    assert (auth.spf, auth.dkim, auth.dmarc) == ("softfail", "pass", "none")
