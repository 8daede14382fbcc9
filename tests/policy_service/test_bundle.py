"""A bundle compiles whole, or says which file and policy are wrong and what to do."""

from datetime import timedelta
from pathlib import Path

import pytest

from mesh.errors import TerminalError
from mesh.records import Obligation
from policy_service.bundle import MAX_BYTES, Bundle, BundleContents, BundleError
from tests.policy_service.till import SCHEMA, make_bundle

PERMIT = '@id("pay") permit (principal, action, resource == Tool::"till.pay");'


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    for name in ("b.cedar", "a.cedar", "schema.cedarschema", "cases/x.yaml", "roles.yaml", "notes.txt"):
        (tmp_path / name).write_text(name)
    contents = BundleContents.read(tmp_path, "till")
    names = ["a.cedar", "b.cedar", "cases/x.yaml", "roles.yaml", "schema.cedarschema"]
    assert [name for name, _ in contents.files] == names
    assert contents.digest.startswith("sha256:")


def test_the_digest_changes_with_any_file() -> None:
    files = (("a.cedar", PERMIT), ("schema.cedarschema", SCHEMA))
    one = BundleContents(domain="till", files=files)
    other = BundleContents(domain="till", files=(*files, ("cases/x.yaml", "[]")))
    assert one.digest == BundleContents(domain="till", files=files).digest
    assert len({one.digest, other.digest, BundleContents(domain="shop", files=files).digest}) == 3


def test_annotations_are_joined_by_id() -> None:
    bundle = make_bundle(
        """
        @id("large") @rank("7") @reason("much") @approval("cook, baker") @escalate_after("PT30M") @escalate_to("chef")
        @obligation("notify:the owner")
        permit (principal, action == Action::"propose", resource == Tool::"till.pay");
        @id("never") forbid (principal, action, resource);
        """
    )
    large, never = bundle.policies["large"], bundle.policies["never"]
    assert (large.roles, large.escalate_after, large.rank) == (("baker", "cook"), timedelta(minutes=30), 7)
    assert large.obligations == (Obligation(name="notify", value="the owner"),)
    assert large.stand_ins == ("chef",)
    assert (large.tool, large.both, large.reason, large.effect) == ("till.pay", False, "much", "permit")
    assert (never.tool, never.both, never.effect, never.file) == ("", True, "forbid", "till.cedar")


def test_a_policy_that_reads_the_action_does_not_decide_both_alike() -> None:
    text = '@id("pay") permit (principal, action, resource) when { action == Action::"propose" };'
    assert not make_bundle(text).policies["pay"].both


@pytest.mark.parametrize(
    ("text", "policy", "says"),
    [
        ("permit (principal, action, resource);", "number 1 of the file", "needs an @id"),
        (PERMIT + 'permit (principal, action, resource) when { "" == "" };', "number 2 of the file", "needs an @id"),
        ('@id("a b") permit (principal, action, resource);', "a b", "needs an @id"),
        (PERMIT + PERMIT, "pay", "occurs before, in till.cedar"),
        ('@id("a") @reasn("x") permit (principal, action, resource);', "a", "unknown annotation @reasn"),
        ('@id("a") @rank("first") permit (principal, action, resource);', "a", "whole number"),
        ('@id("a") @approval("boss") permit (principal, action, resource);', "a", "@approval belongs on a permit"),
        (
            '@id("a") @approval("boss") forbid (principal, action == Action::"propose", resource);',
            "a",
            "@approval belongs on a permit",
        ),
        (
            '@id("a") @approval("boss,") permit (principal, action == Action::"propose", resource);',
            "a",
            "must name roles",
        ),
        (
            '@id("a") @escalate_after("PT1M") permit (principal, action, resource);',
            "a",
            "needs @approval and @escalate_to",
        ),
        (
            '@id("a") @approval("boss") @escalate_after("soon") @escalate_to("chef")'
            ' permit (principal, action == Action::"propose", resource);',
            "a",
            "ISO 8601",
        ),
        ('@id("a") @obligation("log:x") forbid (principal, action, resource);', "a", "belongs on a permit"),
        ('@id("a") permit (principal, action, resource == Tool::"till.pya");', "a", "does not fit schema.cedarschema"),
        ('@id("a") permit (principal, action, resource) when { context.facts.okay };', "a", "not found"),
        ('@id("a") permit (principal == ?principal, action, resource);', "", "holds a template"),
        ('@id("a") permit (principal, action', "", "does not parse"),
        ("// nothing", "", "holds no policy"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(text: str, policy: str, says: str) -> None:
    with pytest.raises(BundleError, match=says) as caught:
        make_bundle(text)
    assert caught.value.policy == policy
    assert isinstance(caught.value, TerminalError)


def test_a_bundle_needs_a_schema_that_parses() -> None:
    for files in ((("a.cedar", PERMIT),), (("a.cedar", PERMIT), ("schema.cedarschema", "entity {"))):
        with pytest.raises(BundleError, match=r"schema\.cedarschema"):
            Bundle.load(BundleContents(domain="till", files=files))


def test_what_is_no_folder_or_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no folder"):
        BundleContents.read(tmp_path / "nowhere", "till")
    (tmp_path / "a.cedar").write_bytes(b"\xff")
    with pytest.raises(BundleError, match="UTF-8"):
        BundleContents.read(tmp_path, "till")
    (tmp_path / "a.cedar").write_text("/" * (MAX_BYTES + 1))
    with pytest.raises(BundleError, match="split the domain"):
        BundleContents.read(tmp_path, "till")
