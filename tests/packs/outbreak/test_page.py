"""The page of an alert: what stands on it, and that nothing on it runs."""

from html.parser import HTMLParser

import msgspec
import pytest

from packs.outbreak.arguments import PublishArgs
from packs.outbreak.backtest.data import load
from packs.outbreak.consensus import assess
from packs.outbreak.page import POLICY, Evidence, index, render, served
from packs.outbreak.verdict import Rules, Said
from packs.outbreak.weeks import week_name, week_number
from packs.outbreak.wire import AlertLine, AlertState, Claim, ClaimState, SeriesView

WEEK = "2014-W22"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Parsed(HTMLParser):
    """What a browser would find."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def evidence(evil: str = "", approved_by: tuple[str, ...] = ("ann", "bob")) -> Evidence:
    """The alert of 2014; ``evil`` stands in every text that comes from outside."""
    points = {week: count for week, count in load()["kaohsiung"].items() if 0 <= week_number(WEEK) - week < 300}
    claims = tuple(
        Claim(
            week=week_name(week),
            source="cdc",
            revision=1,
            count=count,
            document=f"sha256:{week:064}",
            row=f"line {week} {evil}",
            received="2014-06-02",
            state=ClaimState.STANDING,
        )
        for week, count in points.items()
    )
    said = (Said(week=WEEK, signal="rise", source="cdc", document=f"sha256:{1:064} {evil}"),)
    found = assess(points, WEEK, Rules(), said)
    readings = tuple(msgspec.structs.replace(each, note=each.note + evil) for each in found.readings)
    args = PublishArgs(
        alert=f"kaohsiung.dengue.{WEEK}",
        place="kaohsiung",
        disease="dengue",
        week=WEEK,
        series=f"sha256:{7:064}",
        families=found.alarms,
        quorum=3,
        readings=readings,
        count=8,
        verdict=found.verdict + evil,
    )
    return Evidence(args=args, view=SeriesView(found=True, standing=claims, said=said), approved_by=approved_by)


def test_it_tells_the_verdict_of_each_detector_the_people_and_the_source_of_every_number() -> None:
    given = evidence()
    page = render(given)
    text = Parsed(page).text
    for reading in given.args.readings:
        assert reading.detector in text
    for claim in given.view.standing:
        assert claim.document in text and claim.row in text
    assert "ann and bob" in text and given.args.series in text
    assert "With fewer than 4 cases in 2014-W22 instead of 8" in text


def test_it_is_one_document_without_scripts_or_anything_from_elsewhere() -> None:
    page = Parsed(render(evidence()))
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "img", "form", "a", "base"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    policies = [value for name, value in page.attributes if name == "content" and value and "default-src" in value]
    assert policies == [POLICY] and POLICY.startswith("default-src 'none'")
    assert {"svg", "rect", "table"} <= page.tags


@pytest.mark.parametrize("approved_by", [("ann", "bob"), (EVIL, EVIL)])
def test_text_from_outside_stays_text(approved_by: tuple[str, ...]) -> None:
    page = Parsed(render(evidence(EVIL, approved_by)))
    assert not page.tags & {"script", "img"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert EVIL in page.text


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (AlertState.PUBLISHED, None),
        (AlertState.IN_REVIEW, "In review: a number that this alert rests on was corrected."),
        (AlertState.WITHDRAWN, f"Withdrawn by cid: {EVIL}"),
    ],
)
def test_what_has_become_of_it_stands_above_what_was_published(state: AlertState, says: str | None) -> None:
    reason = EVIL if state is AlertState.WITHDRAWN else ""
    line = AlertLine(alert="a", place="p", disease="d", week=WEEK, state=state, withdrawn_by=("cid",), reason=reason)
    page = render(evidence())
    shown = Parsed(served(page, line))
    assert "script" not in shown.tags
    if says is None:
        assert "banner" not in served(page, line).partition("</style>")[2]
    else:
        assert says in shown.text
    assert "script" not in Parsed(index([line])).tags


def test_it_is_a_function_of_the_evidence() -> None:
    assert render(evidence()) == render(evidence())
