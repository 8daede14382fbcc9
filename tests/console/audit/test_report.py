"""The report without a site: every record and end, hostile text in every field, and signatures that do not hold."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.audit.report import Bundle, Case, Proved, render
from console.audit.signatures import signature_of
from mesh import records, subjects
from mesh.identity import Identity
from mesh.journal import Stored
from mesh.merkle import EMPTY_ROOT
from mesh.records import AnyRecord, Approval, Decision, Effect, Outcome, OutcomeStatus, Permit, Result, ResultStatus
from mesh.signed_note import LogCheckpoint
from mesh.signing import PERMIT_TYPE, STATEMENT_TYPE, TRUST_TYPE, sign
from mesh.trust import TrustDirectory, TrustEntry
from tests.console.audit.test_audit_of_a_site import Outline
from tests.mesh.samples import AT, effect, one_of_each, result

EVIL = "</pre><script>alert(1)</script>\u202e\x00&amp;"


class Keys:
    """A root, a policy process and a person, enrolled."""

    def __init__(self, folder: Path) -> None:
        self.root, self.policy, self.ann, self.thief = (
            Identity.create(folder / f"{name}.nk", name) for name in ("root", "policy", "ann", "thief")
        )
        self.directory = TrustDirectory(self.root.public_key)
        self.enroll(self.policy, "agent", "policy")
        self.enroll(self.ann, "person", "manager")

    def enroll(self, who: Identity, kind: Any, role: str, revoked_at: datetime | None = None) -> None:
        entry = TrustEntry(
            name=who.name,
            public_key=who.public_key,
            kind=kind,
            roles=(role,),
            enrolled_at=AT,
            revoked_at=revoked_at,
        )
        self.directory.apply(sign(entry, TRUST_TYPE, self.root))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def approval(keys: Keys, signer: Identity) -> Approval:
    found = next(record for record in one_of_each() if isinstance(record, Approval))
    return msgspec.structs.replace(found, signed=sign(found.statement, STATEMENT_TYPE, signer))


def decision(keys: Keys, signer: Identity) -> Decision:
    found = next(record for record in one_of_each() if isinstance(record, Decision))
    permit = Permit(
        id="p1",
        task_id=found.header.task_id,
        domain="retail",
        plan_digest=found.plan_digest,
        verdict=found.verdict,
        steps=("s1",),
        bundle=found.bundle,
        approved_by=(),
        issued_at=AT,
        expires_at=AT,
    )
    return msgspec.structs.replace(found, signed=sign(permit, PERMIT_TYPE, signer))


def case(keys: Keys, items: Iterable[AnyRecord], **changes: Any) -> Case:
    stored = [Stored(seq, subjects.of(item), AT + timedelta(seconds=seq**3), item) for seq, item in enumerate(items, 1)]
    found = Case(
        items=stored,
        digests={item.seq: "0" * 64 for item in stored},
        directory=keys.directory,
        bundles={},
        proved=Proved(None),
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    for name, value in changes.items():
        object.__setattr__(found, name, value)
    return found


def test_signatures_hold_for_the_right_key_and_the_very_words(keys: Keys) -> None:
    good = signature_of(approval(keys, keys.ann), keys.directory)
    assert good is not None and good.holds and good.signer is not None and good.signer.name == "ann"
    stolen = signature_of(approval(keys, keys.thief), keys.directory)
    assert stolen is not None and "not enrolled" in stolen.problem
    other = signature_of(approval(keys, keys.policy), keys.directory)
    assert other is not None and "that of policy" in other.problem
    said = approval(keys, keys.ann)
    bent = msgspec.structs.replace(said, statement=msgspec.structs.replace(said.statement, comment="more"))
    found = signature_of(bent, keys.directory)
    assert found is not None and found.problem == "what was signed is not what the record says"
    permit = decision(keys, keys.policy)
    assert (signature_of(permit, keys.directory) or pytest.fail()).holds
    swapped = signature_of(msgspec.structs.replace(permit, bundle="sha256:9"), keys.directory)
    assert swapped is not None and not swapped.holds
    assert not (signature_of(decision(keys, keys.ann), keys.directory) or pytest.fail()).holds
    assert signature_of(result(), keys.directory) is None


def test_a_revoked_key_is_told(keys: Keys) -> None:
    keys.enroll(keys.ann, "person", "manager", revoked_at=AT + timedelta(days=1))
    text = Outline(render(case(keys, [one_of_each()[0], approval(keys, keys.ann)]))).text
    assert "signature verified, by ann" in text and "that key was revoked 2026-11-21" in text


def test_every_beginning_of_a_task_has_a_report(keys: Keys) -> None:
    everything = one_of_each()
    for count in range(1, len(everything) + 1):
        assert Outline(render(case(keys, everything[:count]))).text
    assert "without its first record" in render(case(keys, everything[3:]))


@pytest.mark.parametrize("status", OutcomeStatus)
def test_every_end_is_told(keys: Keys, status: OutcomeStatus) -> None:
    head, *rest = one_of_each()
    end = next(record for record in rest if isinstance(record, Outcome))
    items = [head, *rest[:2], msgspec.structs.replace(end, status=status, reason="why it ended")]
    text = Outline(render(case(keys, items))).text
    assert f"It ended {status}: why it ended." in text


def test_compensation_doubt_and_closed_effects_are_shown(keys: Keys) -> None:
    undo_effect = msgspec.structs.replace(effect(), step="s1~undo")
    undo = msgspec.structs.replace(result(output={"undone": True}), step="s1~undo")
    doubt = msgspec.structs.replace(result(), status=ResultStatus.IN_DOUBT, error="timed out", epoch=2)
    closed = msgspec.structs.replace(effect(step="s2"), closed=True)
    head, made, *_ = one_of_each()
    items: list[AnyRecord] = [head, made, effect(), doubt, undo_effect, undo, closed]
    assert all(isinstance(item, Effect | Result) for item in items[2:])
    text = Outline(render(case(keys, items))).text
    for part in ("s1~undo", "in doubt", "timed out", "closed: nothing follows", '"undone": true'):
        assert part in text


def test_text_from_outside_stays_text_wherever_it_stands(keys: Keys) -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            fixed = (
                "kind",
                "task_id",
                "domain",
                "verdict",
                "phase",
                "status",
                "purpose",
                "word",
                "name",
                "step",
                "role",
                "chain",
                "mode",
                "origin",
            )
            return {key: part if key in fixed else poisoned(part) for key, part in value.items()}
        if isinstance(value, list):
            return [poisoned(part) for part in value]
        if isinstance(value, str) and not value.startswith("2026-"):
            return value + EVIL
        return value

    items = [
        records.decode(msgspec.json.encode(poisoned(msgspec.json.decode(records.encode(item)))))
        for item in one_of_each()
    ]
    bundle = Bundle("sha256:3" + EVIL, ((f"x{EVIL}.cedar", f'@id("cap{EVIL}")\npermit(principal);'),), EVIL)
    proved = Proved(LogCheckpoint(f"o{EVIL}", 3, EMPTY_ROOT), EVIL, EVIL, EVIL, EVIL, {1: False, 2: True})
    page = render(case(keys, items, bundles={"b": bundle}, proved=proved))
    outline = Outline(page)
    assert "script" not in outline.tags and "\u202e" not in page and "\x00" not in page
    assert "alert(1)" in outline.text and "NOT in the log" in outline.text
    assert outline.tags <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "main",
            "header",
            "footer",
            "section",
            "h1",
            "h2",
            "h3",
            "p",
        ),
        *("table", "thead", "tbody", "tr", "th", "td", "span", "code", "pre", "div", "br", "figure", "figcaption"),
        *("svg", "line", "polyline", "circle", "text"),
    }


def test_a_forged_approval_and_a_missing_bundle_are_not_passed_over(keys: Keys) -> None:
    items = [one_of_each()[0], decision(keys, keys.thief), approval(keys, keys.thief)]
    bundle = Bundle("sha256:3", problem="is not in the bucket")
    text = Outline(render(case(keys, items, bundles={"b": bundle}))).text
    assert text.count("NOT verified: the key is not enrolled") == 2 and "is not in the bucket" in text
    assert "none was signed yet" in text and "not covered yet" in text
