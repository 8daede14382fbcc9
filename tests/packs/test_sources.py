"""The mapping files that the packs bring, on real inputs: an event, ignored with a reason, or set aside with one."""

from collections import Counter
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.intake.arrival import Arrival
from agents.intake.configured import mapping_path
from agents.intake.documents.rows import read_rows
from agents.intake.mail.reader import mail_reader
from agents.intake.mapping import SourceMapping, load_mapping
from agents.intake.readers import Reader, read_json
from mesh.admission import Accepted, Rejected, read
from mesh.expressions import Variables
from mesh.pack import load_packs
from mesh.sources import Maildir

PACKS = load_packs()
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MAIL = mail_reader(Maildir(mapping="retail/mail", folder="x", authserv_ids=("mx.example",)))


def mapping(name: str) -> SourceMapping:
    tools = {tool.name: tool for pack in PACKS.values() for tool in pack.tools(pack.read_options(None))}
    types = [kind.name for pack in PACKS.values() for kind in pack.events]
    return load_mapping(mapping_path(name, PACKS), tools, types)


def mapped(
    name: str, reader: Reader, data: bytes, source: str = "s", **known: Any
) -> list[tuple[str, Accepted | Rejected | None]]:
    """The rule of each item, and the event that it makes."""
    found: list[tuple[str, Accepted | Rejected | None]] = []
    rules = mapping(name)
    arrival = Arrival(
        source=source,
        key="file",
        data=data,
        content_type="application/json" if reader is read_json else "text/csv",
        received_at=AT,
        headers=known.pop("headers", {}),
    )
    for item in reader(arrival):
        common = {"source": source, "key": item.key, "received": AT, "original": arrival.digest, "found": known}
        variables = Variables({**common, **item.variables})
        rule = rules.rule(variables)
        event = None if rule is None or rule.ignore else read(msgspec.json.encode(rule.event(variables)), {}, PACKS)
        found.append((rule.name if rule else "", event))
    return found


@pytest.mark.parametrize("path", sorted(mapping_path("retail/mail", PACKS).parents[2].glob("*/sources/*.yaml")))
def test_every_mapping_of_the_packs_is_sound(path: Path) -> None:
    assert mapping(f"{path.parents[1].name}/{path.stem}").rules


def test_every_real_ticket_is_a_message_of_the_staff_or_asks_for_nothing(shared_data: Path) -> None:
    seen: Counter[str] = Counter()
    for path in sorted((shared_data / "webhooks").glob("*.json")):
        headers = {"x-github-event": path.name.partition(".")[0]}
        ((rule, event),) = mapped("content/github", read_json, path.read_bytes(), headers=headers)
        assert event is None or isinstance(event, Accepted), event
        seen[rule] += 1
    assert seen["comment"] >= 3
    assert seen["issue"] >= 3
    assert "" not in seen


@pytest.mark.parametrize(
    ("said", "rule", "data"),
    [
        ("/publish spring-news", "publish", {"slug": "spring-news"}),
        ("/takedown spring-news  it is wrong", "takedown", {"slug": "spring-news", "reason": "it is wrong"}),
        ("please /publish spring-news", "comment", {}),
        ("/publish ../etc", "comment", {}),
    ],
)
def test_a_comment_that_is_a_command_is_what_it_says(
    shared_data: Path, said: str, rule: str, data: dict[str, str]
) -> None:
    body = msgspec.json.decode((shared_data / "webhooks" / "issue_comment.created.payload.json").read_bytes())
    body["comment"]["body"] = said
    headers = {"x-github-event": "issue_comment"}
    ((found, event),) = mapped("content/github", read_json, msgspec.json.encode(body), headers=headers)
    assert isinstance(event, Accepted)
    by = {"by": body["comment"]["user"]["login"]}
    wanted = {**by, **(data or {"message": said})}
    assert (found, msgspec.json.decode(event.event.data)) == (rule, wanted)
    assert event.event.source == "/webhooks/github"


def test_counts_come_as_rows_with_their_document_and_corrections_say_what_they_replace() -> None:
    data = (
        b"place;disease;week;count;replaces;reason\nkaohsiung;dengue;2014-W20;17;;\n"
        b"kaohsiung;dengue;2014-W20;19;1;late reports\nkaohsiung;dengue;2014-W54;1;;\n"
    )
    first, second, third = mapped("outbreak/counts", read_rows, data, source="cdc")
    assert (first[0], second[0], third[0]) == ("report", "correction", "report")
    assert isinstance(first[1], Accepted)
    assert isinstance(second[1], Accepted)
    assert isinstance(third[1], Rejected)
    said = msgspec.json.decode(first[1].event.data)
    assert said["document"].startswith("sha256:")
    assert (said["count"], said["row"], said["received"], said["source"]) == (17, "file#1", "2026-01-02", "cdc")
    assert first[1].event.source == "/sources/cdc"
    assert msgspec.json.decode(second[1].event.data)["replaces"] == 1
    # The next export tells the same number again, beside others: the same event. Another number is a conflict.
    ((_, again),) = mapped(
        "outbreak/counts", read_rows, b"week,count,place,disease\n2014-W20,17,kaohsiung,dengue\n", "cdc"
    )
    ((_, other),) = mapped(
        "outbreak/counts", read_rows, b"week,count,place,disease\n2014-W20,18,kaohsiung,dengue\n", "cdc"
    )
    assert isinstance(again, Accepted)
    assert isinstance(other, Accepted)
    assert again.task_id == other.task_id == first[1].task_id
    assert again.digest == first[1].digest != other.digest


@pytest.mark.parametrize(
    ("subject", "vouched", "rule"),
    [("Dengue, 2014-W20", True, "bulletin"), ("Dengue, 2014-W20", False, ""), ("Dengue, this week", True, "")],
)
def test_a_bulletin_counts_with_its_week_and_somebody_who_vouches(subject: str, vouched: bool, rule: str) -> None:
    message = EmailMessage()
    message["From"] = "office@cdc.example"
    message["Subject"] = subject
    message["Message-ID"] = "<b1@cdc.example>"
    if vouched:
        message["Authentication-Results"] = "mx.example; dmarc=pass header.from=cdc.example"
    message.set_content("Kaohsiung reports more cases of dengue than last week.")
    ((found, event),) = mapped("outbreak/bulletins", MAIL, bytes(message), source="cdc")
    assert found == rule
    if rule:
        assert isinstance(event, Accepted)
        assert msgspec.json.decode(event.event.data)["week"] == "2014-W20"


def test_every_real_mail_is_mapped_by_the_shops_rules(shared_data: Path) -> None:
    seen: Counter[str] = Counter()
    for path in sorted((shared_data / "emails").glob("*.eml")):
        nobody = {"user_id": "", "count": 0}
        ((rule, event),) = mapped("retail/mail", MAIL, path.read_bytes(), customer=nobody)
        assert event is None or isinstance(event, Accepted), (path.name, event)
        seen[rule] += 1
    assert sum(seen.values()) == 55
    assert seen["unassigned"] >= 40
    assert "" not in seen


def test_what_the_cms_wants_done_comes_from_its_outbox() -> None:
    event = {
        "specversion": "1.0",
        "id": "merge-7-k",
        "source": "/cms",
        "type": "content.merge.requested",
        "subject": "article/spring-news",
        "data": {"slug": "spring-news", "merge": "merge-7"},
    }
    row = msgspec.json.encode({"seq": 1, "event": msgspec.json.encode(event).decode()})
    ((rule, found),) = mapped("content/cms", read_rows, row)
    assert rule == "merge"
    assert isinstance(found, Accepted)
    assert (found.event.id, found.event.source, found.entity) == ("merge-7-k", "/cms", "article/spring-news")
    assert msgspec.json.decode(found.event.data) == event["data"]
