"""Requests by mail and by form on a live site: who asked is known or a person is asked, and one request is one case."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from agents.intake.tokens import add_token
from mesh import quarantine
from mesh.canonical import task_id
from mesh.originals import Originals
from mesh.records import Context, OutcomeStatus, Plan, Word
from mesh.scripted.conversations import Conversation, Turn, When
from tests.packs.retail.test_messages_and_people import Site, site_with, wait_for

pytestmark = pytest.mark.timeout(120)

ORDER, CUSTOMER, ADDRESS = "#W1771144", "kaspar_ikeda_9905", "kaspar.ikeda9905@example.com"
WHY = "no longer needed"
VOUCHED = "mx.shop.example; dmarc=pass header.from=example.com"


@dataclass
class Shop:
    """The site, its mail box and its form."""

    site: Site
    folder: Path
    token: str

    def mail(self, name: str, text: str, sender: str = ADDRESS, **headers: str) -> str:
        """Put a mail into the box; its task."""
        message = EmailMessage()
        message["From"] = f"Kaspar <{sender}>"
        message["To"] = "orders@shop.example"
        message["Subject"] = "My order"
        message["Message-ID"] = f"<{name}@example.com>"
        for header, value in headers.items():
            message[header.replace("_", "-")] = value
        message.set_content(text)
        message.add_attachment(b"%PDF-1.4 a bill", maintype="text", subtype="plain", filename="bill.pdf")
        path = self.folder / "mail" / "tmp" / name
        path.write_bytes(bytes(message))
        path.rename(self.folder / "mail" / "new" / name)
        return task_id("mail", f"{name}@example.com")

    async def form(self, **fields: Any) -> str:
        """Send the form; its task."""
        url = (self.folder / "site" / "intake" / "url").read_text(encoding="utf-8").strip()
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            answer = await client.post(f"{url}/webhooks/form", data=fields, headers=headers)
        assert answer.status_code == 202, answer.text
        (event,) = answer.json()["events"]
        return str(event["task_id"])

    async def record(self, kind: str, task: str) -> Any:
        """Wait for a record of a task."""

        async def look() -> Any:
            item = await self.site.journal.record(f"task.{kind}.retail.{task}.-")
            return item.record if item else None

        return await wait_for(look)

    async def emptied(self) -> None:
        """Wait until the box has no new mail."""

        async def look() -> bool | None:
            return None if os.listdir(self.folder / "mail" / "new") else True

        await wait_for(look)


@asynccontextmanager
async def shop_in(folder: Path, *said: Conversation) -> AsyncIterator[Shop]:
    for name in ("tmp", "new", "cur"):
        (folder / "mail" / name).mkdir(parents=True)
    config = f"""
        [intake]
        port = 0
        [intake.sources.form]
        kind = "webhook"
        mapping = "retail/form"
        [intake.sources.mail]
        kind = "maildir"
        folder = "{folder}/mail"
        mapping = "retail/mail"
        authserv_ids = ["mx.shop.example"]
        poll_s = 0.1
    """
    token = add_token(folder / "site" / "intake" / "tokens", "storefront", ["retail"])
    async with site_with(folder, *said, config=config) as site:
        yield Shop(site, folder, token)


def said(title: str, asks: str, answer: Any) -> Conversation:
    return Conversation(conversation=title, when=When(asks=asks), says=(Turn(answer=answer),))


READ = (
    said("which", "intent", {"intent": "retail.cancel.requested", "order_id": ORDER, "note": ""}),
    said("why", "reason", {"reason": WHY, "missing": ""}),
    said("judge", "agrees", {"agrees": True, "why": "it is what the message says"}),
)


async def test_the_same_request_by_form_and_mail_is_done_once(tmp_path: Path) -> None:
    async with shop_in(tmp_path, *READ) as shop:
        form = await shop.form(request="cancel", order_id=ORDER, customer=CUSTOMER, reason=WHY)
        mail = shop.mail(
            "cancel", f"Please cancel order {ORDER}, it was {WHY}. Urgent!", Authentication_Results=VOUCHED
        )
        assert (await shop.site.outcome(form)).status is OutcomeStatus.COMPLETED
        ended = await shop.site.outcome(mail)
        context, plan = await shop.record("context", mail), await shop.record("plan", mail)
        assert isinstance(context, Context)
        assert isinstance(plan, Plan)
        assert ended.status in (OutcomeStatus.REFUSED, OutcomeStatus.DENIED)
        assert ended.reason == f"the same request came before by form, and is task {form}"
        assert (context.earlier, context.urgency, plan.repeats) == ((form,), "high", form)
        assert context.case == f"cancel/{ORDER.removeprefix('#')}/{CUSTOMER}"
        assert await shop.site.changes() == ["cancel"]
        data = msgspec.json.decode(context.data)
        assert (data["user_id"], data["thread"]) == (CUSTOMER, "cancel@example.com")
        (attachment,) = data["attachments"]
        assert (attachment["name"], attachment["type"]) == ("bill.pdf", "application/pdf")
        originals = Originals(shop.site.bus)
        assert await originals.read(attachment["digest"]) == b"%PDF-1.4 a bill"
        assert b"Subject: My order" in await originals.read(context.event.original)


async def test_whom_the_shop_does_not_know_for_certain_a_person_reads_and_what_machines_send_starts_nothing(
    tmp_path: Path,
) -> None:
    evil = VOUCHED.replace("shop", "evil")
    async with shop_in(tmp_path, *READ) as shop:
        words = f"Please cancel order {ORDER}, it was {WHY}."
        sent = {
            shop.mail("unvouched", words): (ADDRESS, "nobody vouches that it comes from this address"),
            shop.mail("forged", words, Authentication_Results=evil): (ADDRESS, "nobody vouches"),
            shop.mail("stranger", words, "who@example.com", Authentication_Results=VOUCHED): (
                "who@example.com",
                "no customer has this address",
            ),
            shop.mail("bounce", "no such box", "mailer-daemon@example.com", X_Failed_Recipients="kaspar@example.com"): (
                "mailer-daemon@example.com",
                "a letter could not be delivered",
            ),
        }
        automatic = shop.mail("ooo", "I am away", Authentication_Results=VOUCHED, Auto_Submitted="auto-replied")
        for task, (sender, why) in sent.items():
            shown = await shop.site.shown(task)
            assert [step.call.tool for step in shown.steps] == ["retail.hand-over"]
            assert sender in shown.rationale
            assert why in shown.rationale
            await shop.site.say(shown, Word.APPROVE)
            assert (await shop.site.outcome(task)).status is OutcomeStatus.COMPLETED
        await shop.emptied()
        assert await shop.site.changes() == []
        assert await shop.site.journal.record(f"task.context.retail.{automatic}.-") is None
        assert await quarantine.waiting(shop.site.bus) == []
