"""The registry's own rules: what it takes, what it contests, what it publishes; and that nothing happens twice."""

import sqlite3
import time
from typing import Any

import msgspec
import pytest

from mesh.canonical import digest_bytes
from packs.outbreak.arguments import CHANGES, SeriesArgs
from packs.outbreak.registry.rules import DeadlinePassed, KeyReused, RuleViolation
from packs.outbreak.registry.store import Store, Terms
from packs.outbreak.wire import AlertState, Answer, ClaimState
from tests.packs.outbreak.office import number

WEEK = "2014-W18"
CITY = {"source": "kaohsiung-health", "document": digest_bytes(b"city")}


def change(store: Store, kind: str, key: str, people: tuple[str, ...] = (), **data: Any) -> Answer:
    args = msgspec.convert(data, CHANGES[kind])
    return store.apply(kind, args, Terms(key=key, approved_by=people))


def standing(store: Store, week: str = WEEK) -> list[tuple[str, int, int, ClaimState]]:
    claims = store.export().claims["kaohsiung/dengue"]
    return [(c.source, c.revision, c.count, c.state) for c in claims if c.week == week]


def published(store: Store, people: tuple[str, ...] = ("ann", "bob"), **more: Any) -> Answer:
    view = store.series(msgspec.convert({"place": "kaohsiung", "disease": "dengue", "week": WEEK}, SeriesArgs))
    reading = {"detector": "bayes", "family": "bayes", "state": "alarm"}
    data = {
        "alert": f"kaohsiung.dengue.{WEEK}",
        "place": "kaohsiung",
        "disease": "dengue",
        "week": WEEK,
        "series": view.digest,
        "families": ("bayes",),
        "quorum": 3,
        "readings": (reading,),
        "count": 9,
        "verdict": "agreed",
    }
    return change(store, "publish", more.pop("key", "p1"), people, **(data | more))


def test_a_number_is_taken_with_all_that_it_comes_from(store: Store) -> None:
    answer = change(store, "record", "k1", **number(count=9))
    assert (answer.state, answer.replayed) == ("standing", False)
    (claim,) = [c for c in store.export().claims["kaohsiung/dengue"] if c.week == WEEK]
    assert (claim.document, claim.row, claim.received) == (number()["document"], "/kaohsiung/dengue", "2014-07-07")


def test_a_key_works_once_and_with_one_content(store: Store) -> None:
    first = change(store, "record", "k1", **number(count=9))
    again = change(store, "record", "k1", **number(count=9))
    assert (again.seq, again.replayed) == (first.seq, True)
    with pytest.raises(KeyReused):
        change(store, "record", "k1", **number(count=10))
    assert standing(store) == [("cdc", 1, 9, ClaimState.STANDING)]


def test_too_late_is_not_at_all(store: Store) -> None:
    args = msgspec.convert(number(count=9), CHANGES["record"])
    with pytest.raises(DeadlinePassed):
        store.apply("record", args, Terms(key="k1", deadline=time.time() - 1))
    assert standing(store) == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"place": "taipei"}, "no_such_series"),
        ({"source": "nobody"}, "unknown_source"),
        ({"place": "tainan", "source": "kaohsiung-health"}, "unknown_source"),
        ({"count": 5001}, "out_of_range"),
        ({"week": "2014-W40"}, "week_not_over"),
        ({"received": "2014-05-04"}, "week_not_over"),
        ({"week": "2014-W10", "received": "2014-03-20"}, "back_in_time"),
    ],
)
def test_what_cannot_be_is_refused_whoever_let_it_pass(store: Store, wrong: dict[str, Any], code: str) -> None:
    with pytest.raises(RuleViolation) as raised:
        change(store, "record", "k1", **number(**wrong))
    assert raised.value.code == code


def test_a_number_is_never_overwritten_but_by_a_correction_with_a_document_of_its_own(store: Store) -> None:
    change(store, "record", "k1", **number(count=9))
    with pytest.raises(RuleViolation, match="correct it"):
        change(store, "record", "k2", **number(count=8))
    with pytest.raises(RuleViolation, match="same document"):
        change(store, "correct", "k3", **number(count=8), replaces=1, reason="typed wrongly")
    with pytest.raises(RuleViolation, match="has revision 1"):
        change(store, "correct", "k4", **number(count=8), replaces=2, reason="typed wrongly")
    change(store, "correct", "k5", **number(count=8, document=digest_bytes(b"2")), replaces=1, reason="typed wrongly")
    assert standing(store) == [("cdc", 1, 9, ClaimState.SUPERSEDED), ("cdc", 2, 8, ClaimState.STANDING)]
    with pytest.raises(sqlite3.IntegrityError, match="never overwritten"):
        store.db.execute("UPDATE claim SET count = 1")
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        store.db.execute("DELETE FROM claim")


def test_two_sources_that_differ_are_both_contested_until_a_person_settles_it(store: Store) -> None:
    change(store, "record", "k1", **number(count=9))
    assert change(store, "record", "k2", **number(count=7, **CITY)).state == "contested"
    assert {state for *_, state in standing(store)} == {ClaimState.CONTESTED}
    with pytest.raises(RuleViolation, match="is contested"):
        published(store)
    with pytest.raises(RuleViolation, match="not contested"):
        change(store, "settle", "k3", **_which("cdc", 2))
    change(store, "settle", "k4", **_which("kaohsiung-health", 1))
    assert [(source, state) for source, _, _, state in standing(store)] == [
        ("cdc", ClaimState.REJECTED),
        ("kaohsiung-health", ClaimState.STANDING),
    ]


def test_two_sources_that_agree_stand_both(store: Store) -> None:
    change(store, "record", "k1", **number(count=9))
    assert change(store, "record", "k2", **number(count=9, **CITY)).state == "standing"


def _which(source: str, revision: int) -> dict[str, Any]:
    about: dict[str, Any] = {"place": "kaohsiung", "disease": "dengue", "week": WEEK}
    return about | {"source": source, "revision": revision, "reason": "asked both"}


@pytest.mark.parametrize("people", [(), ("ann",), ("ann", "ann")])
def test_an_alert_needs_two_people(store: Store, people: tuple[str, ...]) -> None:
    change(store, "record", "k1", **number(count=9))
    with pytest.raises(RuleViolation, match="needs 2 people"):
        published(store, people)
    assert store.export().alerts == ()


def test_an_alert_is_published_on_the_numbers_that_were_judged_or_not_at_all(store: Store) -> None:
    change(store, "record", "k1", **number(count=9))
    with pytest.raises(RuleViolation, match="have changed since"):
        published(store, series=digest_bytes(b"other numbers"))
    published(store)
    with pytest.raises(RuleViolation, match="there is an alert"):
        published(store, key="p2")
    (line,), (notice,) = store.export().alerts, store.export().notices
    assert (line.state, line.approved_by) == (AlertState.PUBLISHED, ("ann", "bob"))
    assert (notice.to, notice.subject) == ("alerts@kaohsiung.example", f"Alert: dengue in kaohsiung, {WEEK}")


def test_a_correction_brings_alerts_into_review_and_withdrawn_ones_stay_where_they_are(store: Store) -> None:
    change(store, "record", "k1", **number(count=9))
    published(store)
    change(store, "correct", "k2", **number(count=1, document=digest_bytes(b"2")), replaces=1, reason="typed wrongly")
    assert store.export().alerts[0].state is AlertState.IN_REVIEW
    with pytest.raises(RuleViolation, match="a person withdraws"):
        change(store, "withdraw", "k3", alert=f"kaohsiung.dengue.{WEEK}", reason="disproved")
    change(store, "withdraw", "k4", ("ann",), alert=f"kaohsiung.dengue.{WEEK}", reason="disproved")
    (line,) = store.export().alerts
    assert (line.state, line.withdrawn_by, line.reason) == (AlertState.WITHDRAWN, ("ann",), "disproved")
    assert len(store.export().notices) == 2
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        store.db.execute("DELETE FROM alert")
    with pytest.raises(RuleViolation, match="is withdrawn"):
        change(store, "withdraw", "k5", ("ann",), alert=f"kaohsiung.dengue.{WEEK}", reason="again")


def test_the_digest_is_of_every_number_with_its_provenance(store: Store) -> None:
    about = msgspec.convert({"place": "kaohsiung", "disease": "dengue", "week": WEEK}, SeriesArgs)
    before = store.series(about).digest
    change(store, "record", "k1", **number(count=0))
    with_number = store.series(about).digest
    change(store, "correct", "k2", **number(count=0, document=digest_bytes(b"2")), replaces=1, reason="other paper")
    assert len({before, with_number, store.series(about).digest}) == 3


def test_a_bulletin_is_filed_once(store: Store) -> None:
    data: dict[str, Any] = {"place": "tainan", "disease": "dengue", "week": WEEK, "bulletin": "B-1", "source": "cdc"}
    data |= {"document": number()["document"], "signal": "rise", "quote": "dengue is rising"}
    assert change(store, "file", "k1", **data).state == "rise"
    with pytest.raises(RuleViolation, match="filed already"):
        change(store, "file", "k2", **(data | {"signal": "usual"}))
