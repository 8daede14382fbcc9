"""Samples of a mapping: what the check of a pack finds in them, of each kind that a mapping reads."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agents.intake.checking import check
from mesh.checks import Finding
from mesh.pack import EventType, Pack, load_packs

MAIL = b"From: ann@example.org\r\nSubject: My order\r\nMessage-ID: <1@example.org>\r\n\r\nPlease cancel.\r\n"


class Said(msgspec.Struct):
    """Somebody said something."""

    who: str
    text: str = ""


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """A pack with one type of event, the tools of the shop, and an empty folder of mappings."""
    retail = load_packs(("retail",))["retail"]
    return replace(retail, events=(EventType("retail.said", Said),), sources=tmp_path)


def given(pack: Pack, mapping: str, **files: bytes) -> list[Finding]:
    """What is found where the mapping ``m`` has these samples; ``a__expected_jsonl`` is ``a.expected.jsonl``."""
    assert pack.sources is not None
    (pack.sources / "m.yaml").write_text(mapping, encoding="utf-8")
    folder = pack.sources / "m.samples"
    folder.mkdir()
    for name, data in files.items():
        (folder / name.replace("__", ".").replace("_", ".")).write_bytes(data)
    return list(check(pack))


def rule(who: str, more: str = "") -> str:
    return f"rules:\n  - name: said\n    type: retail.said\n    data: {{who: '{who}'}}\n{more}"


def test_a_mail_is_read_as_mail(pack: Pack) -> None:
    mapping = "reads: mail\n" + rule("mail.subject")
    expected = b'{"type":"retail.said","data":{"who":"My order"}}\n'
    assert given(pack, mapping, a__eml=MAIL, a__expected_jsonl=expected) == []


def test_each_row_is_an_event(pack: Pack) -> None:
    mapping = "reads: rows\n" + rule("row.name")
    expected = b'{"data":{"who":"ann"}}\n{"data":{"who":"bob"}}\n'
    assert given(pack, mapping, a__csv=b"name;age\nann;3\nbob;4\n", a__expected_jsonl=expected) == []


def test_headers_and_the_answers_of_look_ups_stand_beside_a_sample(pack: Pack) -> None:
    lookup = (
        '    when: headers["x-kind"] == "order"\n    lookup: {order: {tool: retail.order, args: {order_id: body.id}}}\n'
    )
    found = given(
        pack,
        "reads: json\n" + rule("found.order.user_id", lookup),
        a__json=b'{"id":"1"}',
        a__headers_json=b'{"x-kind":"order"}',
        a__found_json=b'{"order":{"user_id":"ann"}}',
        a__expected_jsonl=b'{"data":{"who":"ann"}}\n',
    )
    assert found == []


def test_what_no_rule_is_meant_for_is_found(pack: Pack) -> None:
    mapping = "reads: json\n" + rule("body.who", "    when: has(body.who)\n")
    (first, second) = given(pack, mapping, a__json=b"{}", a__expected_jsonl=b"")
    assert first.file.endswith("m.samples/a.json")
    assert "no rule of the mapping is meant for it" in first.problem
    assert second.place == "rule said"
    assert "no sample" in second.problem


def test_more_or_fewer_events_than_expected_are_found(pack: Pack) -> None:
    (found,) = given(pack, "reads: json\n" + rule("body.who"), a__json=b'{"who":"ann"}', a__expected_jsonl=b"")
    assert "0 events are expected, and 1 come of a.json" in found.problem


def test_without_an_expectation_what_comes_of_it_is_told(pack: Pack) -> None:
    (found,) = given(pack, "reads: json\n" + rule("body.who"), a__json=b'{"who":"ann"}')
    assert '"who":"ann"' in found.problem


def test_a_mapping_without_a_sample_and_samples_without_a_mapping_are_found(pack: Pack) -> None:
    assert pack.sources is not None
    (pack.sources / "lost.samples").mkdir()
    found = given(pack, "reads: json\n" + rule("body.who"))
    assert [each.problem.partition(":")[0] for each in found] == [
        "no sample shows what it makes",
        "samples of no mapping",
    ]
